"""LDM's U-Net (Rombach et al. 2022 and its program latent-diffusion), layer by layer.

It is ADM's, without a variance. Attention may be a spatial transformer, which also attends to a context, and an
image-like condition may join the input.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.adm_blocks import ADMSettings, Attention, Signals
from pdm_jax.networks.pdm_unet import Features
from pdm_jax.networks.spatial_transformer import SpatialTransformer, TransformerSettings
from pdm_jax.networks.unet import UNet, adm_builder, check_attention, check_levels
from pdm_jax.types import Array, Cond


class LDMUNet(UNet):
    """A U-Net over latents, conditioned on time and, as built, on a label, a context, a grid joined to its input.

    Args:
      channels: of the latents and the output.
      in_channels: of the latents and `Cond.concat` together, in this order; None is `channels`: nothing is joined.
      width: base width, even and at least 4.
      channel_mult: width factor of each level, finest first; each width is a multiple of 32.
      num_blocks: blocks a level.
      attn_levels: levels with attention after each block (finest is 0); the middle always attends.
      num_classes: 0 for none; the label's embedding is added to that of time.
      has_null: the label `num_classes` is the null label, for guidance without a classifier.
      context_dim: of the tokens of `Cond.context`; every attention is then a spatial transformer. None: plain
        attention.
      transformer_depth: blocks of each spatial transformer.
      use_scale_shift_norm: time scales and shifts each block's second norm; otherwise it is added before it.
      resblock_updown: residual blocks change the resolution, by means and repetition; otherwise convolutions do.
      head_dim: channels of an attention head.
      num_heads: heads of every attention, in place of `head_dim`.
      attention_order: "legacy" or "new", which only matters to imported weights (see `adm_blocks.Attention`).
      use_remat: recompute each stage in the backward pass instead of keeping its activations.
      dtype: of the computation. The input convolution, the output head, norm statistics and softmax are float32
        always, as are the parameters.
    """

    def __init__(
        self,
        *,
        channels: int,
        in_channels: int | None = None,
        width: int,
        channel_mult: Sequence[float],
        num_blocks: int,
        attn_levels: Sequence[int] = (),
        num_classes: int = 0,
        has_null: bool = True,
        context_dim: int | None = None,
        transformer_depth: int = 1,
        use_scale_shift_norm: bool = False,
        resblock_updown: bool = False,
        head_dim: int = 32,
        num_heads: int | None = None,
        attention_order: str = "legacy",
        use_remat: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths = check_levels(width, channel_mult, num_blocks, attn_levels)
        check_attention(head_dim, num_heads, attention_order)
        in_channels = channels if in_channels is None else in_channels
        _check_conditions(channels, in_channels, context_dim, transformer_depth)
        shared = (4 * width, use_scale_shift_norm, resblock_updown, head_dim, num_heads, attention_order, dtype)
        attention, settings = Attention, ADMSettings(*shared)
        if context_dim is not None:
            attention, settings = SpatialTransformer, TransformerSettings(*shared, context_dim, transformer_depth)
        super().__init__(
            adm_builder(widths, num_blocks, attn_levels, settings, rngs, attention),
            in_channels=in_channels,
            out_channels=channels,
            width=width,
            num_classes=num_classes,
            has_null=has_null,
            use_remat=use_remat,
            dtype=dtype,
            rngs=rngs,
        )
        self.concat_channels, self.context_dim = in_channels - channels, context_dim or 0

    def __call__(self, z_t: Array, t: Array, cond: Cond) -> tuple[Array, None]:
        """The output (B, H, W, channels) float32 of z_t, of that shape, at steps t [B] or [1]; there is no variance.

        Raises:
          UserError: the condition is not of the fields, channels and sizes that the network was built for, or H or W
            cannot be halved down through the levels.
        """
        return self.decode(self.encode(z_t, t, cond), t, cond)

    def encode(self, z_t: Array, t: Array, cond: Cond) -> Features:
        """The features of z_t and `cond.concat` down to and including the middle."""
        return self.descend(self._joined(z_t, cond.concat), self._signals(t, cond))

    def decode(self, features: Features, t: Array, cond: Cond) -> tuple[Array, None]:
        """The output (see `__call__`) from features; `cond.concat` has entered them already."""
        return self.ascend(features, self._signals(t, cond)), None

    def _joined(self, z_t: Array, concat: Array | None) -> Array:
        """z_t and concat along channels."""
        self.check_size(z_t.shape[1:3])
        _check_channels("concat", concat, self.concat_channels)
        if concat is None:
            return z_t
        if concat.shape[1:3] != z_t.shape[1:3]:
            raise UserError(
                f"Cond.concat is {concat.shape[1]}x{concat.shape[2]} and the latents are "
                f"{z_t.shape[1]}x{z_t.shape[2]}; they must be of one size"
            )
        concat = jnp.broadcast_to(concat.astype(z_t.dtype), (*z_t.shape[:3], concat.shape[-1]))
        return jnp.concatenate([z_t, concat], axis=-1)

    def _signals(self, t: Array, cond: Cond) -> Signals:
        _check_channels("context", cond.context, self.context_dim)
        context = None if cond.context is None else cond.context.astype(self.dtype)
        return Signals(jax.nn.swish(self.embed(t, cond.label)), context)


def _check_channels(name: str, array: Array | None, wanted: int) -> None:
    got = 0 if array is None else array.shape[-1]
    if got != wanted:
        wants, has = (f"Cond.{name} of {n} channels" if n else f"no Cond.{name}" for n in (wanted, got))
        raise UserError(f"this network takes {wants} and was given {has}; give what it was built for")


def _check_conditions(channels: int, in_channels: int, context_dim: int | None, transformer_depth: int) -> None:
    if in_channels < channels:
        raise UserError(
            f"network.in_channels is {in_channels}; expected the {channels} channels of the latents and what is joined"
        )
    if context_dim is not None and context_dim < 1:
        raise UserError(f"network.context_dim is {context_dim}; expected at least 1, or None for no context")
    if transformer_depth < 1:
        raise UserError(f"network.transformer_depth is {transformer_depth}; expected at least 1")
