"""ADM's U-Net: the network of the program guided-diffusion (Dhariwal & Nichol 2021), layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.networks.adm_blocks import ADMSettings, Signals
from pdm_jax.networks.pdm_unet import Features, check_grid
from pdm_jax.networks.unet import UNet, adm_builder, check_attention, check_levels
from pdm_jax.types import Array, Cond


class ADMUNet(UNet):
    """A U-Net over pixels (or a grid of patches), with the learned variance of Improved DDPM.

    It does what the program's `UNetModel` does with learned resampling; dropout is left out.

    Args:
      channels: of the input and output.
      width: base width, even and at least 4.
      channel_mult: width factor of each level, finest first; each width is a multiple of 32.
      num_blocks: blocks a level.
      attn_levels: levels with attention after each block (finest is 0); the middle always attends.
      num_classes: 0 for none.
      has_null: the label `num_classes` is the null label, for guidance without a classifier. The program has none.
      learn_variance: whether the network puts out a variance too.
      use_scale_shift_norm: time scales and shifts each block's second norm; otherwise it is added before it.
      resblock_updown: residual blocks change the resolution, by means and repetition; otherwise convolutions do.
      head_dim: channels of an attention head.
      num_heads: heads of every attention, in place of `head_dim`.
      attention_order: "new" or "legacy", which only matters to imported weights (see `adm_blocks.Attention`).
      use_remat: recompute each stage in the backward pass instead of keeping its activations.
      dtype: of the computation. The input convolution, the output head, norm statistics and softmax are float32
        always, as are the parameters.
    """

    def __init__(
        self,
        *,
        channels: int,
        width: int,
        channel_mult: Sequence[float],
        num_blocks: int,
        attn_levels: Sequence[int] = (),
        num_classes: int = 0,
        has_null: bool = True,
        learn_variance: bool = True,
        use_scale_shift_norm: bool = True,
        resblock_updown: bool = True,
        head_dim: int = 64,
        num_heads: int | None = None,
        attention_order: str = "new",
        use_remat: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths = check_levels(width, channel_mult, num_blocks, attn_levels)
        check_attention(head_dim, num_heads, attention_order)
        settings = ADMSettings(
            4 * width, use_scale_shift_norm, resblock_updown, head_dim, num_heads, attention_order, dtype
        )
        super().__init__(
            adm_builder(widths, num_blocks, attn_levels, settings, rngs),
            in_channels=channels,
            out_channels=channels * (1 + learn_variance),
            width=width,
            num_classes=num_classes,
            has_null=has_null,
            use_remat=use_remat,
            dtype=dtype,
            rngs=rngs,
        )
        self.learn_variance = learn_variance

    def __call__(self, z_t: Array, t: Array, cond: Cond) -> tuple[Array, Array | None]:
        """z_t (B, H, W, channels) at steps t [B] or [1] to the output and the variance, of the same shape.

        The variance is raw, in ADM's convention (-1 the small one, 1 the large one; see `diffusion.from_adm`) and
        not limited to that range; None if it is not learned.
        """
        return self.decode(self.encode(z_t, t, cond), t, cond)

    def encode(self, z_t: Array, t: Array, cond: Cond) -> Features:
        """The features of z_t down to and including the middle."""
        check_grid(z_t.shape[1:3], self.num_levels)
        return self.descend(z_t, self._signals(t, cond))

    def decode(self, features: Features, t: Array, cond: Cond) -> tuple[Array, Array | None]:
        """The output and the variance (see `__call__`) from features."""
        output = self.ascend(features, self._signals(t, cond))
        return tuple(jnp.split(output, 2, axis=-1)) if self.learn_variance else (output, None)

    def _signals(self, t: Array, cond: Cond) -> Signals:
        return Signals(jax.nn.swish(self.embed(t, cond.label)))
