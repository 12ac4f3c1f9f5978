"""The layers of the first stages' autoencoders (LDM; they are those of VQGAN, Esser et al. 2021)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.networks.blocks import attend
from pdm_jax.networks.layers import Conv3x3, Dense, GroupNorm
from pdm_jax.types import Array

NORM_EPS = 1e-6
_uniform = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's kernels; biases begin at 0


def conv3x3(in_features: int, features: int, *, stride: int = 1, dtype, rngs: nnx.Rngs) -> Conv3x3:
    """A 3x3 convolution with SAME padding; stride 2 pads 0 before and 1 after, as the program's encoder does."""
    return Conv3x3(in_features, features, (3, 3), strides=stride, kernel_init=_uniform, dtype=dtype, rngs=rngs)


def conv1x1(in_features: int, features: int, *, dtype, rngs: nnx.Rngs) -> Dense:
    """A 1x1 convolution."""
    return Dense(in_features, features, kernel_init=_uniform, dtype=dtype, rngs=rngs)


def norm(features: int, rngs: nnx.Rngs) -> GroupNorm:
    """A group norm with the program's epsilon."""
    return GroupNorm(features, norm_eps=NORM_EPS, rngs=rngs)


class ResBlock(nnx.Module):
    """norm, swish, conv, norm, swish, conv; added to x. There is no time."""

    def __init__(self, in_features: int, features: int, *, dtype, rngs: nnx.Rngs):
        self.norm_in = norm(in_features, rngs)
        self.conv_in = conv3x3(in_features, features, dtype=dtype, rngs=rngs)
        self.norm_out = norm(features, rngs)
        self.conv_out = conv3x3(features, features, dtype=dtype, rngs=rngs)
        self.skip = None if in_features == features else conv1x1(in_features, features, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C_in) to (B, H, W, C)."""
        h = self.conv_in(jax.nn.swish(self.norm_in(x)))
        h = self.conv_out(jax.nn.swish(self.norm_out(h)))
        return h + (x if self.skip is None else self.skip(x))


class Attention(nnx.Module):
    """Self-attention over all places, one head of all channels, added to x."""

    def __init__(self, features: int, *, dtype, rngs: nnx.Rngs):
        self.norm = norm(features, rngs)
        self.q, self.k, self.v, self.out = (conv1x1(features, features, dtype=dtype, rngs=rngs) for _ in range(4))

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C) to the same shape."""
        batch, height, width, channels = x.shape
        h = self.norm(x).reshape(batch, height * width, channels)
        q, k, v = (project(h)[:, :, None] for project in (self.q, self.k, self.v))  # each (B, H W, 1, C)
        return x + self.out(attend(q, k, v).reshape(x.shape))


class Down(nnx.Module):
    """Halves the resolution by a strided convolution."""

    def __init__(self, features: int, *, dtype, rngs: nnx.Rngs):
        self.conv = conv3x3(features, features, stride=2, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C), of even sizes, to (B, H/2, W/2, C)."""
        return self.conv(x)


class Up(nnx.Module):
    """Doubles the resolution by repeating pixels, then a convolution."""

    def __init__(self, features: int, *, dtype, rngs: nnx.Rngs):
        self.conv = conv3x3(features, features, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C) to (B, 2H, 2W, C)."""
        return self.conv(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))


class Level(nnx.Module):
    """The blocks of one resolution, each with attention behind it or none, then a change of resolution or none."""

    def __init__(self, widths: Sequence[int], attends: bool, resize: type[Down | Up] | None, *, dtype, rngs: nnx.Rngs):
        """`widths` are those of the input and of what each block puts out."""
        pairs = list(itertools.pairwise(widths))
        self.blocks = nnx.List([ResBlock(i, o, dtype=dtype, rngs=rngs) for i, o in pairs])
        self.attentions = nnx.List([Attention(o, dtype=dtype, rngs=rngs) for _, o in pairs] if attends else [])
        self.resize = resize(widths[-1], dtype=dtype, rngs=rngs) if resize else None

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C_in) to (B, H', W', C)."""
        for i, block in enumerate(self.blocks):
            x = block(x)
            x = self.attentions[i](x) if self.attentions else x
        return x if self.resize is None else self.resize(x)


class Middle(nnx.Module):
    """A block, attention where wanted, and a block at the coarsest resolution."""

    def __init__(self, features: int, attends: bool, *, dtype, rngs: nnx.Rngs):
        self.block_in = ResBlock(features, features, dtype=dtype, rngs=rngs)
        self.attention = Attention(features, dtype=dtype, rngs=rngs) if attends else None
        self.block_out = ResBlock(features, features, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C) to the same shape."""
        x = self.block_in(x)
        return self.block_out(x if self.attention is None else self.attention(x))
