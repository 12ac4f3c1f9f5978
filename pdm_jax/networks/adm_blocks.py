"""The blocks of ADM's U-Net (Dhariwal & Nichol 2021; its program guided-diffusion, commit 22e0df8).

Every layer is called as `layer(x, signals)`, with x (B, H, W, C) and what conditions the network, so that a stage is a
plain list of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.blocks import attend
from pdm_jax.networks.layers import Conv3x3, Dense, GroupNorm, zeros
from pdm_jax.types import Array

NORM_EPS = 1e-5
_uniform = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's: within 1 / sqrt(fan in)


@dataclasses.dataclass(frozen=True)
class ADMSettings:
    """What all blocks of a network share."""

    time_dim: int
    use_scale_shift_norm: bool
    resblock_updown: bool
    head_dim: int
    num_heads: int | None  # of every attention, in place of heads of `head_dim` channels
    attention_order: str
    dtype: jnp.dtype


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signals:
    """What conditions every layer."""

    time: Array  # (B or 1, time_dim) step and label, already activated
    context: Array | None = None  # (B or 1, K, D) tokens to attend to, where the network has cross-attention


def conv3x3(in_features: int, out_features: int, *, stride: int = 1, zero_init: bool = False, dtype, rngs: nnx.Rngs):
    """A 3x3 convolution with padding 1 on all sides, initialised as PyTorch does."""
    make = Conv3x3 if stride == 1 else nnx.Conv  # padding 1 is not SAME where the stride is 2
    init = _initializers(9 * in_features, zero_init)
    return make(in_features, out_features, (3, 3), strides=stride, padding=1, dtype=dtype, rngs=rngs, **init)


def dense(
    in_features: int,
    out_features: int,
    *,
    zero_init: bool = False,
    use_bias: bool = True,
    dtype,
    rngs: nnx.Rngs,
) -> Dense:
    """A dense layer over the last axis, initialised as PyTorch does."""
    init = _initializers(in_features, zero_init)
    return Dense(in_features, out_features, use_bias=use_bias, dtype=dtype, rngs=rngs, **init)


def _initializers(fan_in: int, zero_init: bool) -> dict[str, Callable]:
    if zero_init:
        return {"kernel_init": zeros, "bias_init": zeros}
    limit = fan_in**-0.5

    def bias_init(key: Array, shape: tuple[int, ...], dtype=jnp.float32, out_sharding=None) -> Array:
        return jax.random.uniform(key, shape, dtype, minval=-limit, maxval=limit)

    return {"kernel_init": _uniform, "bias_init": bias_init}


class ResBlock(nnx.Module):
    """norm, swish, conv, time, norm, swish, conv; added to x. With `resize` both branches are resized."""

    def __init__(
        self,
        in_features: int,
        features: int,
        settings: ADMSettings,
        *,
        resize: Callable[[Array], Array] | None = None,
        rngs: nnx.Rngs,
    ):
        dtype, self.use_scale_shift, self.resize = settings.dtype, settings.use_scale_shift_norm, resize
        self.norm_in = GroupNorm(in_features, norm_eps=NORM_EPS, rngs=rngs)
        self.conv_in = conv3x3(in_features, features, dtype=dtype, rngs=rngs)
        self.modulation = dense(settings.time_dim, (1 + self.use_scale_shift) * features, dtype=dtype, rngs=rngs)
        self.norm_out = GroupNorm(features, norm_eps=NORM_EPS, rngs=rngs)
        self.conv_out = conv3x3(features, features, zero_init=True, dtype=dtype, rngs=rngs)
        self.skip = None if in_features == features else dense(in_features, features, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, signals: Signals) -> Array:
        """x (B, H, W, C_in) to (B, H', W', C)."""
        h = jax.nn.swish(self.norm_in(x))
        if self.resize is not None:
            h, x = self.resize(h), self.resize(x)
        h, modulation = self.conv_in(h), self.modulation(signals.time)
        if self.use_scale_shift:
            h = self.norm_out(h, *jnp.split(modulation, 2, axis=-1))
        else:
            h = self.norm_out(h + modulation[:, None, None])
        h = self.conv_out(jax.nn.swish(h))
        return h + (x if self.skip is None else self.skip(x))


class Attention(nnx.Module):
    """Self-attention over all places of the grid, added to x.

    The order says how the program cuts the 3C channels of q, k and v: "new" into q, k, v and each into heads,
    "legacy" into heads and each into q, k, v.
    """

    def __init__(self, features: int, settings: ADMSettings, *, rngs: nnx.Rngs):
        self.num_heads, self.order = check_heads(features, settings), settings.attention_order
        self.norm = GroupNorm(features, norm_eps=NORM_EPS, rngs=rngs)
        self.qkv = dense(features, 3 * features, dtype=settings.dtype, rngs=rngs)
        self.out = dense(features, features, zero_init=True, dtype=settings.dtype, rngs=rngs)

    def __call__(self, x: Array, signals: Signals) -> Array:
        """x (B, H, W, C) to the same shape."""
        del signals
        batch, height, width, _ = x.shape
        cut = (3, self.num_heads) if self.order == "new" else (self.num_heads, 3)
        qkv = self.qkv(self.norm(x)).reshape(batch, height * width, *cut, -1)
        q, k, v = jnp.moveaxis(qkv, 2 + cut.index(3), 0)  # each (B, H W, heads, head_dim)
        return x + self.out(attend(q, k, v).reshape(x.shape))


def check_heads(features: int, settings: ADMSettings) -> int:
    """The number of heads of an attention on so many channels; raises `UserError` where they do not divide."""
    if features % (settings.num_heads or settings.head_dim):
        wanted = f"{settings.num_heads} (heads)" if settings.num_heads else f"{settings.head_dim} (one head)"
        raise UserError(
            f"attention on {features} channels needs a multiple of {wanted}; "
            "change width, channel_mult or attn_levels (the middle always attends)"
        )
    return settings.num_heads or features // settings.head_dim


class Down(nnx.Module):
    """Halves the resolution by a strided convolution."""

    def __init__(self, features: int, settings: ADMSettings, *, rngs: nnx.Rngs):
        self.strided = conv3x3(features, features, stride=2, dtype=settings.dtype, rngs=rngs)

    def __call__(self, x: Array, signals: Signals) -> Array:
        """x (B, H, W, C) to (B, H/2, W/2, C)."""
        del signals
        return self.strided(x)


class Up(nnx.Module):
    """Doubles the resolution by repeating pixels, then a convolution."""

    def __init__(self, features: int, settings: ADMSettings, *, rngs: nnx.Rngs):
        self.conv = conv3x3(features, features, dtype=settings.dtype, rngs=rngs)

    def __call__(self, x: Array, signals: Signals) -> Array:
        """x (B, H, W, C) to (B, 2H, 2W, C)."""
        del signals
        return self.conv(double(x))


class Stage(nnx.Module):
    """One entry of the encoder or decoder, or the middle: layers in a row."""

    def __init__(self, layers: Sequence[nnx.Module]):
        self.layers = nnx.List(layers)

    def __call__(self, x: Array, signals: Signals) -> Array:
        """x (B, H, W, C_in) to (B, H', W', C)."""
        for layer in self.layers:
            x = layer(x, signals)
        return x


def down(features: int, settings: ADMSettings, rngs: nnx.Rngs) -> ResBlock | Down:
    """The layer that halves the resolution."""
    if settings.resblock_updown:
        return ResBlock(features, features, settings, resize=halve, rngs=rngs)
    return Down(features, settings, rngs=rngs)


def up(features: int, settings: ADMSettings, rngs: nnx.Rngs) -> ResBlock | Up:
    """The layer that doubles the resolution."""
    if settings.resblock_updown:
        return ResBlock(features, features, settings, resize=double, rngs=rngs)
    return Up(features, settings, rngs=rngs)


def halve(x: Array) -> Array:
    """Means of 2x2 pixels: x (B, H, W, C) to (B, H/2, W/2, C)."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def double(x: Array) -> Array:
    """Each pixel twice in both directions: x (B, H, W, C) to (B, 2H, 2W, C)."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
