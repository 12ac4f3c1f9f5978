"""Frozen networks that judge images, whatever they are inside."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping

import jax
import numpy as np

from pdm_jax.types import Array, Params


@dataclasses.dataclass(frozen=True)
class FeatureNetwork:
    """Images to features, as a pure function."""

    name: str  # as results call it: "inception", "vgg16", "clip", "local"
    params: Params
    # (params, images uint8 (B, H, W, C), C 1 or 3) -> float32 features (B, D) by output; resizes and normalises inside
    apply: Callable[[Params, Array], Mapping[str, Array]]
    outputs: Mapping[str, int]  # D of each output; the first is the one for Fréchet distances and manifolds
    resize: str  # how images come to the network's size: clean | tensorflow | pytorch | none
    least_size: int = 1  # shortest side of an image that it can take, in pixels

    @property
    def identity(self) -> dict[str, str]:
        """What tells features of this network from those of another one."""
        return {"features": self.name, "weights": digest(self.params), "resize": self.resize}


@dataclasses.dataclass(frozen=True)
class PerceptualNetwork:
    """Distances between two images, as a pure function."""

    name: str  # as results call it: "lpips-alex", "lpips-vgg", "perceptual_local"
    params: Params
    # (params, images, images), both uint8 (B, H, W, C), C 1 or 3 -> float32 distances (B,)
    apply: Callable[[Params, Array, Array], Array]
    least_size: int = 1


def digest(params: Params) -> str:
    """Twelve hex digits that name the weights by their content, whatever file they came from."""
    found = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(params):
        array = np.ascontiguousarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()[:12]
