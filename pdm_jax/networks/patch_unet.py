"""Patch-DM's U-Net: the network of its program (commit f4a9e0a) over single patches, layer by layer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.adm_blocks import NORM_EPS, Attention, Stage, conv3x3, dense, double, halve
from pdm_jax.networks.layers import GroupNorm
from pdm_jax.networks.patch_blocks import PatchSettings, ResBlock, Signals, check_levels, make_settings
from pdm_jax.networks.pdm_unet import Features
from pdm_jax.networks.unet import Builder
from pdm_jax.ops.embeddings import cosine_code, position_code
from pdm_jax.types import Array, Cond

_POSITION_WIDTH = 64  # of the code of one axis, whatever the network's width


class MLP(nnx.Module):
    """Dense, swish, dense."""

    def __init__(self, in_features: int, features: int, *, dtype, rngs: nnx.Rngs):
        self.dense_in = dense(in_features, features, dtype=dtype, rngs=rngs)
        self.dense_out = dense(features, features, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """x (B, in_features) to (B, features)."""
        return self.dense_out(jax.nn.swish(self.dense_in(x)))


class PatchUNet(nnx.Module):
    """A U-Net over patches, conditioned on time and position, and on the image's semantic code.

    Args:
      channels: of the input and output.
      width: base width, even and a multiple of 32.
      channel_mult: width factor of each level, finest first.
      num_blocks: blocks a level.
      attn_levels: levels with attention after each block (finest is 0); the middle always attends. The released
        program attends at level 2; the paper's parameter count is that of the middle alone.
      code_dim: numbers of a semantic code; 0 for a network that takes none.
      embed_dim: of the blocks' conditions, even; half of it is for time, half for position. A code of another size
        is projected.
      dropout: in every block, where keys are given.
      use_remat: recompute each stage in the backward pass instead of keeping its activations.
      dtype: of the computation. The input convolution, the output head, norm statistics and softmax are float32
        always, as are the parameters.
    """

    def __init__(
        self,
        *,
        channels: int,
        width: int,
        channel_mult: Sequence[int],
        num_blocks: int,
        attn_levels: Sequence[int] = (),
        code_dim: int,
        embed_dim: int = 512,
        dropout: float = 0.1,
        use_remat: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths = check_levels(width, channel_mult, num_blocks, attn_levels)
        _check_conditions(code_dim, embed_dim, dropout)
        settings = make_settings(embed_dim, has_code=code_dim > 0, dropout=dropout, dtype=dtype)
        self.width, self.num_levels, self.code_dim = width, len(widths), code_dim
        self.use_remat, self.dtype = use_remat, dtype

        self.time = MLP(width, embed_dim // 2, dtype=dtype, rngs=rngs)
        self.position = MLP(2 * _POSITION_WIDTH, embed_dim // 2, dtype=dtype, rngs=rngs)
        self.code = MLP(code_dim, embed_dim, dtype=dtype, rngs=rngs) if code_dim not in (0, embed_dim) else None
        self.conv_in = conv3x3(channels, widths[0], dtype=jnp.float32, rngs=rngs)
        builder = _builder(widths, num_blocks, attn_levels, settings, rngs)
        self.encoder, self.middle, self.decoder = builder.encoder(), builder.middle(), builder.decoder()
        self.norm_out = GroupNorm(widths[0], norm_eps=NORM_EPS, rngs=rngs)
        self.conv_out = conv3x3(widths[0], channels, zero_init=True, dtype=jnp.float32, rngs=rngs)

    def __call__(self, z_t: Array, t: Array, cond: Cond, *, keys: Array | None = None) -> tuple[Array, None]:
        """The output (B, P, P, channels) of patches z_t at steps t [B] or [1]; there is no variance.

        Args:
          cond: `position` (B, 3) is row and column in patch units of the padded grid, and 1, or 0 where the position
            is dropped; `code` (B, code_dim), zeros where it is dropped. One that is None is dropped for all.
          keys: [B] of dropout; None turns it off.
        """
        return self.decode(self.encode(z_t, t, cond, keys=keys), t, cond, keys=keys)

    def encode(self, z_t: Array, t: Array, cond: Cond, *, keys: Array | None = None) -> Features:
        """The features of patches down to and including the middle; the skips in the order they are made."""
        factor = 2 ** (self.num_levels - 1)
        if z_t.shape[1] % factor or z_t.shape[2] % factor:
            raise UserError(
                f"a patch of {z_t.shape[1]}x{z_t.shape[2]} cannot be halved {self.num_levels - 1} times; choose a "
                f"multiple of {factor}, or fewer levels in network.channel_mult"
            )
        signals = self.signals(t, cond, keys)
        h = self.conv_in(z_t).astype(self.dtype)
        skips = [h]
        for stage in self.encoder:
            h = self._run(stage, h, signals)
            skips.append(h)
        return Features(self._run(self.middle, h, signals), tuple(skips))

    def decode(self, features: Features, t: Array, cond: Cond, *, keys: Array | None = None) -> tuple[Array, None]:
        """The output from features, which may be a collage of those of other patches; see `__call__`."""
        signals = self.signals(t, cond, keys)
        h, skips = features.mid, list(features.skips)
        for stage in self.decoder:
            h = self._run(stage, jnp.concatenate([h, skips.pop()], axis=-1), signals)
        assert not skips, f"{len(skips)} skips left over"
        return self.conv_out(jax.nn.swish(self.norm_out(h.astype(jnp.float32)))), None

    def embed(self, t: Array, cond: Cond) -> tuple[Array, Array | None]:
        """Both conditions before their activation, each (B or 1, embed_dim): time and position, and the code."""
        position = jnp.zeros((1, 3)) if cond.position is None else cond.position
        time, place = self.time(cosine_code(t, self.width)), self.position(position_code(position, _POSITION_WIDTH))
        rows = max(len(time), len(place))
        both = [jnp.broadcast_to(half, (rows, half.shape[1])) for half in (time, place)]
        return jnp.concatenate(both, axis=-1), self._embed_code(cond.code)

    def signals(self, t: Array, cond: Cond, keys: Array | None) -> Signals:
        """What the blocks get."""
        place, code = jax.tree.map(jax.nn.swish, self.embed(t, cond))
        return Signals(place, code, keys)

    def _embed_code(self, code: Array | None) -> Array | None:
        if not self.code_dim:
            return None
        code = jnp.zeros((1, self.code_dim)) if code is None else code
        if code.shape[-1] != self.code_dim:
            raise UserError(f"the codes have {code.shape[-1]} numbers; this network takes {self.code_dim}")
        return code if self.code is None else self.code(code)

    def _run(self, stage: Stage, h: Array, signals: Signals) -> Array:
        return jax.checkpoint(lambda h, s: stage(h, s))(h, signals) if self.use_remat else stage(h, signals)


def _builder(widths, num_blocks, attn_levels, settings: PatchSettings, rngs: nnx.Rngs) -> Builder:
    numbers = itertools.count()

    def block(in_features: int, features: int, resize: Callable[[Array], Array] | None = None) -> ResBlock:
        return ResBlock(in_features, features, settings, next(numbers), resize=resize, rngs=rngs)

    return Builder(
        widths,
        num_blocks,
        attn_levels,
        block=block,
        attention=lambda features: Attention(features, settings, rngs=rngs),
        down=lambda features: block(features, features, halve),
        up=lambda features: block(features, features, double),
    )


def _check_conditions(code_dim: int, embed_dim: int, dropout: float) -> None:
    if code_dim < 0:
        raise UserError(f"network.code_dim is {code_dim}; expected at least 0")
    if embed_dim < 2 or embed_dim % 2:
        raise UserError(f"network.embed_dim is {embed_dim}; expected an even number of at least 2")
    if not 0 <= dropout < 1:
        raise UserError(f"network.dropout is {dropout}; expected at least 0 and below 1")
