"""From what a user writes, `inception:FILE` or `local`, to the networks that judge."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from pdm_jax.data import Dataset
from pdm_jax.errors import UserError
from pdm_jax.evaluation import local_features
from pdm_jax.evaluation.clip_score import ClipScorer, open_clip
from pdm_jax.evaluation.demand import TEXT, Demand
from pdm_jax.evaluation.networks import FeatureNetwork, PerceptualNetwork
from pdm_jax.evaluation.pretrained import open_inception, open_lpips, open_vgg16


@dataclasses.dataclass(frozen=True)
class Judges:
    """The networks that an evaluation needs; None where it does not."""

    features: FeatureNetwork | None = None
    perceptual: PerceptualNetwork | None = None
    clip: ClipScorer | None = None


def open_judges(
    demand: Demand,
    *,
    features: str,
    resize: str,
    perceptual: str,
    clip: str | None,
    make_local: Callable[[], FeatureNetwork],
) -> Judges:
    """Opens what the metrics need and nothing else.

    Args:
      demand: the metrics.
      features: "local", "inception:FILE" or "vgg16:FILE".
      resize: how Inception gets its images: "clean", "tensorflow" or "pytorch".
      perceptual: "local", "alex:BACKBONE,HEADS" or "vgg:BACKBONE,HEADS".
      clip: a folder; None where there is none.
      make_local: trains the local network or takes it from a cache; called once at most.

    Raises:
      UserError: a text is not understood, a file cannot be used, or CLIP is needed and not given.
    """
    needs_perceptual = "lpips" in demand.of_pairs
    found = Judges()
    # Files first: a wrong one is said before any time is spent on training.
    if demand.of_features and features != "local":
        found = dataclasses.replace(found, features=_features(features, resize))
    if needs_perceptual and perceptual != "local":
        found = dataclasses.replace(found, perceptual=_perceptual(perceptual))
    if any(name in TEXT for name in demand.metrics):
        if clip is None:
            raise UserError("clip needs --clip-model=FOLDER, a folder with CLIP as Hugging Face publishes it")
        found = dataclasses.replace(found, clip=open_clip(clip))
    lacks_features = bool(demand.of_features) and found.features is None
    lacks_perceptual = needs_perceptual and found.perceptual is None
    if lacks_features or lacks_perceptual:
        local = make_local()
        found = dataclasses.replace(
            found,
            features=local if lacks_features else found.features,
            perceptual=local_features.local_perceptual(local) if lacks_perceptual else found.perceptual,
        )
    return found


def local_network(
    dataset: Dataset, key: Mapping[str, Any], cache: Path, progress: Callable[[Iterable], Iterable] = iter
) -> FeatureNetwork:
    """A feature network trained on real images themselves, or the one that the cache has of them.

    Its numbers compare runs on these images and mean nothing beside those of another set or of Inception.

    Args:
      dataset: the real images.
      key: what tells them from others, as plain JSON.
      cache: folder, made where it does not exist.
      progress: wraps the iteration over training steps, such as a progress bar.
    """
    name = hashlib.sha256(json.dumps([local_features.recipe(), dict(key)], sort_keys=True).encode()).hexdigest()[:16]
    path = cache / f"local-{name}.safetensors"
    if path.is_file():
        network = local_features.load(path)
    else:
        network = local_features.train_local(dataset, seed=0, progress=progress)
        if jax.process_index() == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            local_features.save(path, network)
    # Hosts that read different parts of the data have learned different things.
    return dataclasses.replace(network, params=multihost_utils.broadcast_one_to_all(network.params))


def _features(spec: str, resize: str) -> FeatureNetwork:
    kind, _, path = spec.partition(":")
    if kind == "inception" and path:
        return open_inception(path, resize)
    if kind == "vgg16" and path:
        return open_vgg16(path)
    raise UserError(f"--features is {spec!r}; expected local, inception:FILE or vgg16:FILE")


def _perceptual(spec: str) -> PerceptualNetwork:
    kind, _, paths = spec.partition(":")
    backbone, comma, heads = paths.partition(",")
    if kind in ("alex", "vgg") and comma:
        return open_lpips(kind, backbone, heads)
    raise UserError(f"--perceptual is {spec!r}; expected local, alex:BACKBONE,HEADS or vgg:BACKBONE,HEADS")
