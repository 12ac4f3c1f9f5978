"""LPIPS v0.1: a perceptual distance (Zhang et al. 2018, arXiv 1801.03924; package lpips 0.1.4)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx

from pdm_jax.networks import alexnet, vgg
from pdm_jax.types import Array

BACKBONES = {"alex": (alexnet.AlexNet, alexnet.WIDTHS), "vgg": (vgg.VGG16, tuple(s[-1] for s in vgg.STAGES))}
LEAST_SIZES = {"alex": alexnet.LEAST_SIZE, "vgg": vgg.LEAST_SIZE}
# Images in [-1, 1] to the ImageNet normalisation that the backbones were trained with.
_SHIFT = np.array([[[[-0.030, -0.088, -0.188]]]], np.float32)
_SCALE = np.array([[[[0.458, 0.448, 0.450]]]], np.float32)
_NORM_EPS = 1e-10


class LPIPS(nnx.Module):
    """Weighted distances between unit-normalised features of two images, at five depths.

    Args:
      backbone: "alex" or "vgg", a key of `BACKBONES`.
      dtype: of the backbone; features are compared in float32.
    """

    def __init__(self, backbone: str, *, dtype=jnp.float32, rngs: nnx.Rngs):
        make, widths = BACKBONES[backbone]
        self.backbone = make(dtype=dtype, rngs=rngs)
        self.heads = nnx.List([nnx.Param(jnp.full((width,), 1 / width, jnp.float32)) for width in widths])

    def __call__(self, a: Array, b: Array) -> Array:
        """Distances [B], float32, of images a and b, both (B, H, W, 3) in [-1, 1]; differentiable."""
        images = (jnp.concatenate([a, b]).astype(jnp.float32) - _SHIFT) / _SCALE
        taps = self.backbone.taps(images)
        return sum(_compare(*jnp.split(tap, 2), head[...]) for tap, head in zip(taps, self.heads, strict=True))


def _compare(a: Array, b: Array, head: Array) -> Array:
    """The mean over places of the weighted squared difference: (B, H, W, C) twice and [C] to [B]."""
    difference = jnp.square(_normalize(a) - _normalize(b))
    return jnp.sum(difference * head[None, None, None], axis=-1).mean((1, 2))


def _normalize(x: Array) -> Array:
    x = x.astype(jnp.float32)
    return x / (jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True)) + _NORM_EPS)
