"""From the flags of guidance by gradients (LDM appendix C) to guides of sampling."""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image, ImageOps

from pdm_jax.data.pictures import read_picture
from pdm_jax.errors import UserError
from pdm_jax.evaluation.pretrained import load_lpips
from pdm_jax.networks.lpips import LEAST_SIZES
from pdm_jax.parallel import replicated
from pdm_jax.pipelines.generate import choose_labels
from pdm_jax.pipelines.guides import BY, WANTED, Guide, check_first_stage, classifier_guide, picture_guide
from pdm_jax.pipelines.restore import Model, read_config, restore_model
from pdm_jax.systems import System, make_system

_NEEDS = {"classifier_scale": "classifier", "guide_by": "guide", "guide_scale": "guide", "guide_lpips": "guide"}


@dataclasses.dataclass(frozen=True)
class Guidance:
    """The guides that were asked for, and the classifier among them."""

    guides: tuple[Guide, ...] = ()
    classifier: Model | None = None

    @property
    def about(self) -> list[Any]:
        """What images depend on because of it, as plain JSON."""
        return [dict(guide.about) for guide in self.guides]

    def told(self, labels: str, num: int) -> dict[str, np.ndarray]:
        """What guides are told of `num` images: classes, where a classifier looks for them."""
        if self.classifier is None:
            return {}
        return {WANTED: choose_labels(labels, num, self.classifier.system.num_classes)}

    def with_params(self, model: Model) -> Model:
        """The model with the guides' parameters beside its own; raises `UserError` where first stages differ."""
        if self.classifier is not None:
            check_first_stage(self.classifier, model)
        params = dict(model.params)
        for guide in self.guides:
            params |= guide.params
        return dataclasses.replace(model, params=params)


def open_guidance(args: argparse.Namespace, system: System, mesh: Mesh) -> Guidance:
    """The guidance of the flags for a system.

    Raises:
      UserError: flags that do not go together, files that cannot be read, or what does not fit the system.
    """
    for name, needed in _NEEDS.items():
        if getattr(args, name) is not None and getattr(args, needed) is None:
            raise UserError(f"--{name.replace('_', '-')} is of --{needed}, which is not given")
    guides, classifier = [], None
    if args.classifier is not None:
        classifier = _classifier(args, system, mesh)
        guides.append(classifier_guide(system, classifier, _scale("--classifier-scale", args.classifier_scale)))
    if args.guide is not None:
        guides.append(_by_picture(args, system, mesh))
    return Guidance(tuple(guides), classifier)


def num_classes(system: System, guidance: Guidance) -> int:
    """The classes that `--labels` may name: those of the model, or else of the classifier that guides it."""
    return system.num_classes or (guidance.classifier.system.num_classes if guidance.classifier else 0)


def _classifier(args: argparse.Namespace, system: System, mesh: Mesh) -> Model:
    config = read_config(args.classifier)
    if config.model.system != "classifier":
        raise UserError(f"{args.classifier} holds a model of the system {config.model.system!r}, not a classifier")
    own = make_system(config)
    if system.num_classes not in (0, own.num_classes):
        raise UserError(
            f"the classifier in {args.classifier} knows {own.num_classes} classes and this model {system.num_classes}; "
            "give one of the same classes"
        )
    return restore_model(args.classifier, own, config, mesh, weights=args.weights)


def _by_picture(args: argparse.Namespace, system: System, mesh: Mesh) -> Guide:
    by, (height, width, channels) = args.guide_by or BY[0], system.space.picture
    picture = read_picture(args.guide, channels).pixels
    if by == "lowres":
        _check_small(args.guide, picture.shape[:2], (height, width))
    else:
        image = Image.fromarray(picture[..., 0] if channels == 1 else picture)
        fitted = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
        picture = np.asarray(fitted).reshape(height, width, channels)
    network = None
    if by == "lpips":
        definition, params = _lpips(args.guide_lpips, min(height, width))
        network = definition, jax.device_put(params, replicated(mesh))
    elif args.guide_lpips is not None:
        raise UserError("--guide-lpips is of --guide-by=lpips")
    return picture_guide(system, picture, by, _scale("--guide-scale", args.guide_scale), network)


def _lpips(spec: str | None, side: int):
    """The network and its parameters, from files, for images whose shorter side is `side`."""
    kind, _, paths = (spec or "").partition(":")
    backbone, comma, heads = paths.partition(",")
    if kind not in LEAST_SIZES or not comma:
        raise UserError("--guide-by=lpips needs --guide-lpips=alex:BACKBONE,HEADS or vgg:BACKBONE,HEADS, two files")
    if side < LEAST_SIZES[kind]:
        raise UserError(f"lpips by {kind} needs images of {LEAST_SIZES[kind]} pixels a side and these have {side}")
    return load_lpips(kind, backbone, heads)


def _check_small(path: str, size: tuple[int, int], image: tuple[int, int]) -> None:
    if size[0] > image[0] or size[0] * image[1] != size[1] * image[0]:
        raise UserError(
            f"{path} has {size[0]}x{size[1]} pixels; --guide-by=lowres takes a small copy of an image of "
            f"{image[0]}x{image[1]}, of the same shape"
        )


def _scale(flag: str, scale: float | None) -> float:
    if scale is None:
        return 1.0
    if not math.isfinite(scale):
        raise UserError(f"{flag} is {scale}; expected a number, 0 is none")
    return scale
