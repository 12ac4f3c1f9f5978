"""A classifier of noisy latents, whose gradient guides sampling: the encoder of a U-Net and a pooled head.

Source: Dhariwal & Nichol 2021, section 4 and appendix I; LDM (appendix C) trains one of latents.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.adm_blocks import NORM_EPS, ADMSettings, Signals, check_heads, dense
from pdm_jax.networks.layers import GroupNorm
from pdm_jax.networks.token_layers import MultiHeadAttention
from pdm_jax.networks.unet import UNetEncoder, adm_builder, check_attention, check_levels
from pdm_jax.types import Array


class LatentClassifier(UNetEncoder):
    """Logits of the classes of z_t at any step, from latents of any size.

    Args:
      channels: of the latents.
      width: base width, even and at least 4.
      channel_mult: width factor of each level, finest first; each width is a multiple of 32.
      num_blocks: blocks a level.
      attn_levels: levels with attention after each block (finest is 0); the middle always attends.
      num_classes: number of logits, at least 2.
      pool: "attention" (the mean of all places attends to them) or "mean".
      use_scale_shift_norm: time scales and shifts each block's second norm; otherwise it is added before it.
      resblock_updown: residual blocks halve the resolution, by means; otherwise convolutions do.
      head_dim: channels of an attention head.
      use_remat: recompute each stage in the backward pass instead of keeping its activations.
      dtype: of the computation. The input convolution, the head, norm statistics and softmax are float32 always, as
        are the parameters.
    """

    def __init__(
        self,
        *,
        channels: int,
        width: int,
        channel_mult: Sequence[float],
        num_blocks: int,
        attn_levels: Sequence[int] = (),
        num_classes: int,
        pool: str = "attention",
        use_scale_shift_norm: bool = True,
        resblock_updown: bool = True,
        head_dim: int = 64,
        use_remat: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths = check_levels(width, channel_mult, num_blocks, attn_levels)
        check_attention(head_dim, None, "new")
        _check_head(num_classes, pool)
        settings = ADMSettings(4 * width, use_scale_shift_norm, resblock_updown, head_dim, None, "new", dtype)
        builder = adm_builder(widths, num_blocks, attn_levels, settings, rngs)
        shared = {"num_classes": 0, "has_null": False, "use_remat": use_remat, "dtype": dtype, "rngs": rngs}
        super().__init__(builder, in_channels=channels, width=width, **shared)
        features, float32 = widths[-1], {"dtype": jnp.float32, "rngs": rngs}
        self.norm_out = GroupNorm(features, norm_eps=NORM_EPS, rngs=rngs)
        heads = {"num_heads": check_heads(features, settings), "head_dim": head_dim}
        self.pool = MultiHeadAttention(features, features, **heads, **float32) if pool == "attention" else None
        self.logits = dense(features, num_classes, zero_init=True, **float32)

    def __call__(self, z_t: Array, t: Array) -> Array:
        """z_t (B, H, W, channels) at steps t [B] or [1] to logits (B, num_classes) float32.

        Raises:
          UserError: H or W cannot be halved down through the levels.
        """
        self.check_size(z_t.shape[1:3])
        h = self.descend(z_t, Signals(jax.nn.swish(self.embed(t, None)))).mid
        h = jax.nn.swish(self.norm_out(h.astype(jnp.float32)))
        places = h.reshape(len(h), -1, h.shape[-1])
        mean = places.mean(1, keepdims=True)
        pooled = mean if self.pool is None else self.pool(mean, places)
        return self.logits(pooled[:, 0])


def _check_head(num_classes: int, pool: str) -> None:
    if num_classes < 2:
        raise UserError(f"a classifier of {num_classes} classes tells nothing; set config.model.num_classes")
    if pool not in ("attention", "mean"):
        raise UserError(f"network.pool is {pool!r}; expected 'attention' or 'mean'")
