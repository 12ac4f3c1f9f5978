"""Patch-DM's semantic encoder: half a U-Net from a whole, clean image to its code (its program, commit f4a9e0a)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.adm_blocks import NORM_EPS, Attention, Stage, conv3x3, dense, halve
from pdm_jax.networks.layers import GroupNorm
from pdm_jax.networks.patch_blocks import HalfBlock, check_levels, make_settings
from pdm_jax.networks.unet import Builder
from pdm_jax.types import Array


class CodeEncoder(nnx.Module):
    """Reads an image of any size into one vector; there is neither time nor noise.

    Args:
      channels: of the image.
      width: base width, even and a multiple of 32.
      channel_mult: width factor of each level, finest first; released (1, 2, 4, 8, 8).
      num_blocks: blocks a level.
      attn_levels: levels with attention after each block (finest is 0); the middle always attends. The program
        counts from a nominal size: level 2 as it is trained, level 4 in the paper's parameter count.
      code_dim: numbers of a code.
      use_remat: recompute each stage in the backward pass instead of keeping its activations.
      dtype: of the computation. The input convolution, the head, norm statistics and softmax are float32 always, as
        are the parameters.
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
        use_remat: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths = check_levels(width, channel_mult, num_blocks, attn_levels)
        settings = make_settings(code_dim, dtype=dtype)
        self.num_levels, self.use_remat, self.dtype = len(widths), use_remat, dtype
        builder = Builder(
            widths,
            num_blocks,
            attn_levels,
            block=lambda in_features, features: HalfBlock(in_features, features, settings, rngs=rngs),
            attention=lambda features: Attention(features, settings, rngs=rngs),
            down=lambda features: HalfBlock(features, features, settings, resize=halve, rngs=rngs),
        )
        self.conv_in = conv3x3(channels, widths[0], dtype=jnp.float32, rngs=rngs)
        self.encoder, self.middle = builder.encoder(), builder.middle()
        self.norm_out = GroupNorm(widths[-1], norm_eps=NORM_EPS, rngs=rngs)
        self.out = dense(widths[-1], code_dim, dtype=jnp.float32, rngs=rngs)

    def __call__(self, image: Array) -> Array:
        """Images (B, H, W, channels) in [-1, 1] to codes (B, code_dim) float32; raises `UserError` for odd sizes."""
        h = self.features(image)[-1].astype(jnp.float32)
        return self.out(jax.nn.swish(self.norm_out(h)).mean((1, 2)))

    def features(self, image: Array) -> list[Array]:
        """What each stage puts out, from the input convolution to the middle."""
        factor = 2 ** (self.num_levels - 1)
        if image.shape[1] % factor or image.shape[2] % factor:
            raise UserError(
                f"the code encoder cannot halve an image of {image.shape[1]}x{image.shape[2]} {self.num_levels - 1} "
                f"times; choose multiples of {factor}, or fewer levels in its channel_mult"
            )
        features = [self.conv_in(image).astype(self.dtype)]
        for stage in (*self.encoder, self.middle):
            features.append(self._run(stage, features[-1]))
        return features

    def _run(self, stage: Stage, h: Array) -> Array:
        return jax.checkpoint(lambda h: stage(h, None))(h) if self.use_remat else stage(h, None)
