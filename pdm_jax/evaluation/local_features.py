"""The feature network of `--features=local`: trained on the reference data set itself, kept in one file.

Its distances compare runs on one machine where no public weights are at hand; they are comparable with nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.data import Dataset
from pdm_jax.errors import UserError
from pdm_jax.evaluation import local_training, local_views
from pdm_jax.evaluation.networks import FeatureNetwork, PerceptualNetwork
from pdm_jax.interop import safetensors_files
from pdm_jax.interop.matching import match_names
from pdm_jax.networks.feature_net import LARGEST_SIDE, LEAST_SIDE, WIDTHS, FeatureNet, FeatureNetOutput
from pdm_jax.networks.functional import Definition, define
from pdm_jax.types import Array, Params


@dataclasses.dataclass(frozen=True)
class LocalSettings:
    """What the data set says about the network."""

    side: int  # of the images it works on
    channels: int
    num_classes: int  # of the labels it learned from; 0 is none


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalNetwork(FeatureNetwork):
    """A feature network that can be saved, and be asked for distances between images."""

    settings: LocalSettings


def train_local(
    dataset: Dataset, seed: int = 0, progress: Callable[[Iterable[int]], Iterable[int]] = iter
) -> LocalNetwork:
    """Trains the network on a data set, in about a minute on two CPU cores; the same for the same data and seed.

    Args:
      dataset: square images of at least 8x8; its labels are used if it has several classes. This process reads it
        alone: with several hosts, open it with `process_count=1`.
      seed: of the parameters and the views.
      progress: wraps the iteration over the training steps, such as a progress bar.

    Returns:
      A network named "local" with the output "pool" and, if there are labels, "logits".

    Raises:
      UserError: the images are too small.
    """
    _, height, width, channels = next(iter(dataset.once()))["image"].shape
    side = min(height, width, LARGEST_SIDE)
    if side < LEAST_SIDE:
        raise UserError(
            f"{dataset.name} has images of {height}x{width}; local features need at least {LEAST_SIDE}x{LEAST_SIDE}"
        )
    num_classes = dataset.num_classes if dataset.num_classes > 1 else 0
    settings = LocalSettings(side, channels, num_classes)
    return _network(settings, local_training.train(_define(settings), dataset, num_classes, seed, progress))


def local_perceptual(network: LocalNetwork) -> PerceptualNetwork:
    """Distances as LPIPS makes them (Zhang et al. 2018) with all weights one.

    The features of each stage have unit length over the channels; their squared differences are summed over the
    channels, averaged over the places, and summed over the stages.
    """
    definition = _define(network.settings)

    def apply(params: Params, images: Array, others: Array) -> Array:
        pairs = zip(_run(definition, params, images).stages, _run(definition, params, others).stages, strict=True)
        return sum(jnp.square(_unit(a) - _unit(b)).sum(-1).mean((1, 2)) for a, b in pairs)

    return PerceptualNetwork("perceptual_local", network.params, apply, LEAST_SIDE)


def recipe() -> dict[str, Any]:
    """The constants that, with the data and the seed, decide what `train_local` gives; plain JSON."""
    return local_training.RECIPE | local_views.SETTINGS | {"widths": list(WIDTHS), "largest_side": LARGEST_SIDE}


def save(path: str | os.PathLike, network: LocalNetwork) -> None:
    """Writes the network to one safetensors file; it appears complete or not at all.

    Raises:
      UserError: it cannot be written.
    """
    tensors = {_name(keys): np.asarray(leaf) for keys, leaf in jax.tree.leaves_with_path(network.params)}
    settings = dataclasses.asdict(network.settings)
    safetensors_files.write(path, tensors, {"local_features": json.dumps({"settings": settings, "recipe": recipe()})})


def load(path: str | os.PathLike) -> LocalNetwork:
    """The network that `save` wrote.

    Raises:
      UserError: the file is missing or damaged, or holds something else or a network of another recipe.
    """
    tensors, metadata = safetensors_files.read(path)
    if "local_features" not in metadata:
        raise UserError(f"{path} holds no local feature network; remove it, and one is trained in its place")
    stored = json.loads(metadata["local_features"])
    if stored["recipe"] != recipe():
        raise UserError(f"{path} was trained by another version of this program; remove it to train again")
    settings = LocalSettings(**stored["settings"])
    shapes = _define(settings).shapes
    match_names(tensors, {_name(keys): leaf.shape for keys, leaf in jax.tree.leaves_with_path(shapes)})
    return _network(settings, jax.tree.map_with_path(lambda keys, _: tensors[_name(keys)], shapes))


def _network(settings: LocalSettings, params: Params) -> LocalNetwork:
    definition = _define(settings)

    def apply(params: Params, images: Array) -> Mapping[str, Array]:
        out = _run(definition, params, images)
        logits = out.head[:, local_views.DEGRADATIONS :]
        return {"pool": out.pool, "logits": logits} if settings.num_classes else {"pool": out.pool}

    outputs = {"pool": sum(WIDTHS)} | ({"logits": settings.num_classes} if settings.num_classes else {})
    return LocalNetwork(
        name="local",
        params=params,
        apply=apply,
        outputs=outputs,
        resize="none",
        least_size=LEAST_SIDE,
        settings=settings,
    )


def _define(settings: LocalSettings) -> Definition:
    sizes = {"side": settings.side, "channels": settings.channels}
    head_features = local_training.head_features(settings.num_classes)
    return define(lambda rngs: FeatureNet(**sizes, head_features=head_features, rngs=rngs))


def _run(definition: Definition, params: Params, images: Array) -> FeatureNetOutput:
    network = definition.bind(params)
    with jax.default_matmul_precision("float32"):  # an accelerator's usual one would show in the distances
        return network(network.prepare(images))


def _unit(x: Array) -> Array:
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)


def _name(keys: tuple) -> str:
    return ".".join(str(key.key) for key in keys)
