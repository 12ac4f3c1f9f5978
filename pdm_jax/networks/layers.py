"""Convolution, dense layer and group norm, initialised as Keras does (the papers' programs keep its defaults)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.ops.convolution import convolve
from pdm_jax.ops.devices import is_partitioned
from pdm_jax.parallel.sharding import whole_if_few_rows
from pdm_jax.types import Array

glorot = nnx.initializers.glorot_uniform()
zeros = nnx.initializers.zeros_init()


class Conv3x3(nnx.Conv):
    """A 3x3 convolution with SAME padding and a bias."""

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C_in) to (B, H / stride, W / stride, C)."""
        x, kernel, bias = self.promote_dtype((x, self.kernel[...], self.bias[...]), dtype=self.dtype)
        return whole_if_few_rows(convolve(whole_if_few_rows(x), kernel, self.strides)) + bias[None, None, None]


def conv3x3(in_features: int, out_features: int, *, stride: int = 1, zero_init: bool = False, dtype, rngs: nnx.Rngs):
    """A 3x3 convolution with SAME padding; stride 2 on even sizes pads 0 before and 1 after."""
    kernel_init = zeros if zero_init else glorot
    return Conv3x3(in_features, out_features, (3, 3), strides=stride, kernel_init=kernel_init, dtype=dtype, rngs=rngs)


class Dense(nnx.Linear):
    """A dense layer over the last axis with a bias."""

    def __call__(self, x: Array) -> Array:
        """x (..., C_in) to (..., C)."""
        if is_partitioned():
            return super().__call__(x)
        # One long axis of places: a gradient summed over several axes makes XLA transpose all of x on a CPU.
        return super().__call__(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def dense(in_features: int, out_features: int, *, zero_init: bool = False, dtype, rngs: nnx.Rngs) -> Dense:
    """A dense layer over the last axis with a bias."""
    return Dense(in_features, out_features, kernel_init=zeros if zero_init else glorot, dtype=dtype, rngs=rngs)


class GroupNorm(nnx.Module):
    """Group norm over (H, W, channels of a group) with an optional affine map, own or given.

    There are `num_groups`, or as many as channels where those are fewer.

    Statistics are float32. They and the affine map are folded into one multiplier and one offset for each
    sample and channel, so that the normalisation is a single multiply-add that fuses with what follows.
    """

    def __init__(
        self, features: int, *, use_affine: bool = True, norm_eps: float, num_groups: int = 32, rngs: nnx.Rngs
    ):
        num_groups = min(num_groups, features)
        if features % num_groups:
            raise UserError(
                f"a width of {features} channels cannot be normalised in {num_groups} groups; "
                f"make width and width * channel_mult multiples of {num_groups}"
            )
        self.num_groups, self.norm_eps = num_groups, norm_eps
        self.scale = nnx.Param(nnx.initializers.ones_init()(rngs.params(), (features,))) if use_affine else None
        self.bias = nnx.Param(zeros(rngs.params(), (features,))) if use_affine else None

    def __call__(self, x: Array, scale: Array | None = None, shift: Array | None = None) -> Array:
        """Normalises x (B, H, W, C); `scale` and `shift` (B or 1, C) modulate: norm(x) * (1 + scale) + shift."""
        multiplier, offset = self._affine_map(x)
        if scale is not None:
            gain = 1 + scale.astype(jnp.float32)
            multiplier, offset = multiplier * gain, offset * gain + shift.astype(jnp.float32)
        y = x.astype(jnp.float32) * multiplier[:, None, None] + offset[:, None, None]
        return y.astype(x.dtype)

    def _affine_map(self, x: Array) -> tuple[Array, Array]:
        """The multiplier and offset (B, C), float32, that normalise x."""
        batch, _, _, channels = x.shape
        x = x.astype(jnp.float32)
        # Channel means first: the groups are then formed on a tiny array, and the big one keeps its layout.
        moments = jnp.stack([x.mean((1, 2)), jnp.square(x).mean((1, 2))])  # (2, B, C)
        moments = moments.reshape(2, batch, self.num_groups, -1).mean(-1)  # (2, B, groups)
        mean, mean_square = jnp.repeat(moments, channels // self.num_groups, axis=-1)  # each (B, C)
        variance = jnp.maximum(mean_square - jnp.square(mean), 0)
        multiplier = jax.lax.rsqrt(variance + self.norm_eps)
        offset = -mean * multiplier
        if self.scale is not None:
            multiplier, offset = multiplier * self.scale[None], offset * self.scale[None] + self.bias[None]
        return multiplier, offset
