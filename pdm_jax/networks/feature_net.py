"""A small residual network whose features compare images of one data set, trained on that data set itself."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.networks.layers import GroupNorm, conv3x3, dense
from pdm_jax.types import Array

LEAST_SIDE, LARGEST_SIDE = 8, 64  # of the images it works on
WIDTHS = (32, 64, 128)  # channels of the stages
_GRID = 16  # places per side of the first stage, at least: the cost of an image hardly grows with its size
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, as Pillow makes grey of colours


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FeatureNetOutput:
    """What the network makes of images."""

    stages: tuple[Array, ...]  # (B, h, w, C) each, from fine to coarse
    pool: Array  # (B, sum of WIDTHS) means of the stages
    head: Array  # (B, head_features)


class Stage(nnx.Module):
    """A convolution that sets resolution and width, one residual block, then norm and swish."""

    def __init__(self, conv: nnx.Conv, features: int, *, rngs: nnx.Rngs):
        self.conv = conv
        self.norm_in = GroupNorm(features, norm_eps=1e-5, num_groups=8, rngs=rngs)
        self.conv_in = conv3x3(features, features, dtype=jnp.float32, rngs=rngs)
        self.norm_mid = GroupNorm(features, norm_eps=1e-5, num_groups=8, rngs=rngs)
        self.conv_out = conv3x3(features, features, zero_init=True, dtype=jnp.float32, rngs=rngs)
        self.norm_out = GroupNorm(features, norm_eps=1e-5, num_groups=8, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C_in) to (B, H / stride, W / stride, C)."""
        x = self.conv(x)
        h = self.conv_in(jax.nn.swish(self.norm_in(x)))
        h = self.conv_out(jax.nn.swish(self.norm_mid(h)))
        return jax.nn.swish(self.norm_out(x + h))


class FeatureNet(nnx.Module):
    """Three stages, the features of all of them averaged over the image, and a linear head for the training task."""

    def __init__(self, *, side: int, channels: int, head_features: int, rngs: nnx.Rngs):
        """Makes the network.

        Args:
          side: of the images it works on; those of another size are resized to it.
          channels: of its images, 1 or 3.
          head_features: numbers that the head gives an image.
        """
        self.side, self.channels = side, channels
        stride = max(1, side // _GRID)
        stem = nnx.Conv(channels, WIDTHS[0], (stride + 2, stride + 2), strides=stride, padding="SAME", rngs=rngs)
        stages = [Stage(stem, WIDTHS[0], rngs=rngs)]
        for i, o in itertools.pairwise(WIDTHS):
            stages.append(Stage(conv3x3(i, o, stride=2, dtype=jnp.float32, rngs=rngs), o, rngs=rngs))
        self.stages = nnx.List(stages)
        self.head = dense(sum(WIDTHS), head_features, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: Array) -> FeatureNetOutput:
        """x (B, side, side, channels) float32 in [-1, 1]."""
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        pool = jnp.concatenate([h.mean((1, 2)) for h in found], axis=-1)
        return FeatureNetOutput(tuple(found), pool, self.head(pool))

    def prepare(self, images: Array) -> Array:
        """uint8 images (B, H, W, 1 or 3) of any size as this network's input."""
        x = images.astype(jnp.float32) / 127.5 - 1
        if x.shape[-1] > self.channels:
            x = (x * jnp.array(_LUMA, jnp.float32)[None, None, None]).sum(-1, keepdims=True)
        shape = (x.shape[0], self.side, self.side, x.shape[-1])
        x = x if x.shape == shape else jnp.clip(jax.image.resize(x, shape, "cubic"), -1, 1)
        return jnp.broadcast_to(x, (*shape[:-1], self.channels))
