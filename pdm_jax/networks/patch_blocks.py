"""The blocks of Patch-DM's networks: ADM's, with two conditions in the U-Net and half of one in the encoder.

Sources: the paper's section 3.2 and its program (commit f4a9e0a).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax import rng
from pdm_jax.errors import UserError
from pdm_jax.networks import adm_blocks
from pdm_jax.networks.adm_blocks import NORM_EPS, ADMSettings, conv3x3, dense
from pdm_jax.networks.layers import GroupNorm
from pdm_jax.types import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signals:
    """What conditions every block; vectors are activated already."""

    place: Array  # (B or 1, embed_dim) time and position
    code: Array | None  # (B or 1, embed_dim); None in a network without codes
    keys: Array | None  # [B] of dropout; None turns it off


@dataclasses.dataclass(frozen=True)
class PatchSettings(ADMSettings):
    """What all blocks of a network share; `time_dim` is the width of both conditions."""

    has_code: bool
    dropout: float


def make_settings(embed_dim: int, *, has_code: bool = False, dropout: float = 0.0, dtype) -> PatchSettings:
    """Patch-DM's choice among ADM's: scale and shift, blocks that resample, one head."""
    return PatchSettings(
        time_dim=embed_dim,
        use_scale_shift_norm=True,
        resblock_updown=True,
        head_dim=1,
        num_heads=1,
        attention_order="new",
        dtype=dtype,
        has_code=has_code,
        dropout=dropout,
    )


class ResBlock(adm_blocks.ResBlock):
    """ADM's block whose second norm is scaled and shifted by time and position, then scaled by the code; dropout."""

    def __init__(
        self,
        in_features: int,
        features: int,
        settings: PatchSettings,
        number: int,
        *,
        resize: Callable[[Array], Array] | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(in_features, features, settings, resize=resize, rngs=rngs)
        has_code, dtype = settings.has_code, settings.dtype
        self.code_scale = dense(settings.time_dim, features, dtype=dtype, rngs=rngs) if has_code else None
        self.dropout, self.number = settings.dropout, number  # the number sets the block's dropout apart

    def __call__(self, x: Array, signals: Signals) -> Array:
        """x (B, H, W, C_in) to (B, H', W', C)."""
        h = jax.nn.swish(self.norm_in(x))
        if self.resize is not None:
            h, x = self.resize(h), self.resize(x)
        scale, shift = jnp.split(self.modulation(signals.place).astype(jnp.float32), 2, axis=-1)
        if self.code_scale is not None:
            gain = self.code_scale(signals.code).astype(jnp.float32)
            scale, shift = scale + gain + scale * gain, shift * (1 + gain)  # ((1 + scale) h + shift) (1 + gain)
        h = jax.nn.swish(self.norm_out(self.conv_in(h), scale, shift))
        h = self.conv_out(self._drop(h, signals.keys))
        return h + (x if self.skip is None else self.skip(x))

    def _drop(self, h: Array, keys: Array | None) -> Array:
        if keys is None or not self.dropout:
            return h
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.dropout, h.shape[1:]))
        return jnp.where(keep(rng.fold_each(keys, self.number)), h / (1 - self.dropout), 0)


class HalfBlock(nnx.Module):
    """norm, swish, conv, added to x: the encoder's block. With `resize` both branches are resized."""

    def __init__(
        self,
        in_features: int,
        features: int,
        settings: PatchSettings,
        *,
        resize: Callable[[Array], Array] | None = None,
        rngs: nnx.Rngs,
    ):
        self.resize = resize
        self.norm_in = GroupNorm(in_features, norm_eps=NORM_EPS, rngs=rngs)
        self.conv_in = conv3x3(in_features, features, dtype=settings.dtype, rngs=rngs)
        self.skip = None if in_features == features else dense(in_features, features, dtype=settings.dtype, rngs=rngs)

    def __call__(self, x: Array, signals: None) -> Array:
        """x (B, H, W, C_in) to (B, H', W', C)."""
        del signals
        h = jax.nn.swish(self.norm_in(x))
        if self.resize is not None:
            h, x = self.resize(h), self.resize(x)
        return self.conv_in(h) + (x if self.skip is None else self.skip(x))


def check_levels(width: int, channel_mult: Sequence[int], num_blocks: int, attn_levels: Sequence[int]) -> list[int]:
    """The width of each level; errors name the setting."""
    if width % 2 or width < 2:
        raise UserError(f"network.width is {width}; expected an even number of at least 2")
    if not channel_mult:
        raise UserError("network.channel_mult is empty; expected one factor of the width a level, finest first")
    if num_blocks < 1:
        raise UserError(f"network.num_blocks is {num_blocks}; expected at least 1")
    if wrong := [level for level in attn_levels if not 0 <= level < len(channel_mult)]:
        raise UserError(f"network.attn_levels has {wrong}; the levels are 0 (finest) to {len(channel_mult) - 1}")
    return [int(width * mult) for mult in channel_mult]
