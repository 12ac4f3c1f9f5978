"""The blocks of PDM's U-Net (PDM appendix C and its TensorFlow program)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.layers import GroupNorm, conv3x3, dense
from pdm_jax.types import Array


@dataclasses.dataclass(frozen=True)
class BlockSettings:
    """What all blocks of a network share."""

    time_dim: int  # width of the time vector
    gate_dim: int | None  # width of the class embedding that gates blocks; None: no gates
    norm_eps: float  # of norms with an affine map
    plain_norm_eps: float  # of norms without
    head_dim: int
    dtype: jnp.dtype


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signals:
    """What conditions every block."""

    time: Array  # (B or 1, time_dim), already activated
    gate: Array | None  # (B, gate_dim)


class ResBlock(nnx.Module):
    """norm, swish, conv, norm scaled and shifted by time, swish, conv; added to x or to a projection of x."""

    def __init__(self, in_features: int, features: int, settings: BlockSettings, *, project: bool, rngs: nnx.Rngs):
        s, dtype = settings, settings.dtype
        self.norm_in = GroupNorm(in_features, norm_eps=s.norm_eps, rngs=rngs)
        self.conv_in = conv3x3(in_features, features, dtype=dtype, rngs=rngs)
        self.gate = dense(s.gate_dim, features, dtype=dtype, rngs=rngs) if s.gate_dim else None
        self.modulation = dense(s.time_dim, 2 * features, zero_init=True, dtype=dtype, rngs=rngs)
        self.norm_out = GroupNorm(features, use_affine=False, norm_eps=s.plain_norm_eps, rngs=rngs)
        self.conv_out = conv3x3(features, features, zero_init=True, dtype=dtype, rngs=rngs)
        self.skip = dense(in_features, features, dtype=dtype, rngs=rngs) if project else None

    def __call__(self, x: Array, signals: Signals) -> Array:
        """x (B, H, W, C_in) to (B, H, W, C)."""
        h = self.conv_in(jax.nn.swish(self.norm_in(x)))
        scale, shift = jnp.split(self.modulation(signals.time), 2, axis=-1)
        h = self.conv_out(jax.nn.swish(self.norm_out(h, scale, shift)))
        if self.gate is not None:  # starts nearly open: sigmoid(2) = 0.88
            h = h * jax.nn.sigmoid(self.gate(signals.gate) + 2)[:, None, None]
        return h + (x if self.skip is None else self.skip(x))


class Attention(nnx.Module):
    """Self-attention over all places of the grid, heads of `head_dim` channels, added to x."""

    def __init__(self, features: int, settings: BlockSettings, *, rngs: nnx.Rngs):
        if settings.head_dim < 1 or features % settings.head_dim:
            raise UserError(
                f"attention on {features} channels needs a multiple of {settings.head_dim} (one head); "
                "change width, channel_mult or attn_levels (the middle always attends)"
            )
        self.head_dim = settings.head_dim
        self.norm = GroupNorm(features, norm_eps=settings.norm_eps, rngs=rngs)
        self.qkv = dense(features, 3 * features, dtype=settings.dtype, rngs=rngs)
        self.out = dense(features, features, zero_init=True, dtype=settings.dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C) to the same shape."""
        batch, height, width, channels = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, height * width, 3, -1, self.head_dim)
        q, k, v = (qkv[:, :, i] for i in range(3))  # each (B, H W, heads, head_dim)
        return x + self.out(attend(q, k, v).reshape(batch, height, width, channels))


def attend(q: Array, k: Array, v: Array) -> Array:
    """softmax(q k / sqrt(D)) v for q, k, v (B, T, heads, D), the softmax in float32."""
    scale = q.shape[-1] ** -0.25  # on both sides, so that no product leaves bfloat16's precision behind
    logits = jnp.einsum("bqhd,bkhd->bhqk", q * scale, k * scale, preferred_element_type=jnp.float32)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits).astype(v.dtype), v)


class Down(nnx.Module):
    """Halves the resolution by a strided convolution, which also sets the next level's width."""

    def __init__(self, in_features: int, features: int, settings: BlockSettings, *, rngs: nnx.Rngs):
        self.conv = conv3x3(in_features, features, stride=2, dtype=settings.dtype, rngs=rngs)

    def __call__(self, x: Array, signals: Signals) -> Array:
        """x (B, H, W, C_in) to (B, H/2, W/2, C)."""
        del signals
        return self.conv(x)


class Up(nnx.Module):
    """Doubles the resolution by repeating pixels, then a convolution to the finer level's width."""

    def __init__(self, in_features: int, features: int, settings: BlockSettings, *, rngs: nnx.Rngs):
        self.conv = conv3x3(in_features, features, dtype=settings.dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C_in) to (B, 2H, 2W, C)."""
        return self.conv(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))


class Stage(nnx.Module):
    """One entry of the encoder, middle or decoder: a block, then attention, then upsampling where present."""

    def __init__(self, block: ResBlock, attention: Attention | None = None, up: Up | None = None):
        self.block, self.attention, self.up = block, attention, up

    def __call__(self, x: Array, signals: Signals) -> Array:
        """x (B, H, W, C_in) to (B, H, W, C), or (B, 2H, 2W, C') after upsampling."""
        h = self.block(x, signals)
        h = h if self.attention is None else self.attention(h)
        return h if self.up is None else self.up(h)
