"""Maps of classes, or images, at the resolution of latents (LDM facts, section 5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.adm_blocks import dense, halve
from pdm_jax.types import Array


class SpatialRescaler(nnx.Module):
    """Halves the resolution by means of 2x2 places, then maps the channels; the result is joined to the latents.

    Args:
      in_channels: of the input; for a map, the number of classes.
      out_channels: of the result; None leaves the channels as they are.
      num_halvings: log2 of the factor f between images and latents.
      use_bias: whether the map of the channels has one.
      rngs: streams of the initial parameters.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int | None,
        num_halvings: int,
        use_bias: bool = False,
        rngs: nnx.Rngs,
    ):
        if in_channels < 1 or (out_channels is not None and out_channels < 1) or num_halvings < 0:
            raise UserError(
                f"the map has {in_channels} in_channels, {out_channels} out_channels and {num_halvings} num_halvings; "
                "expected channels of at least 1 and halvings of at least 0"
            )
        self.in_channels, self.num_halvings = in_channels, num_halvings
        self.mapper = (
            None
            if out_channels is None
            else dense(in_channels, out_channels, use_bias=use_bias, dtype=jnp.float32, rngs=rngs)
        )

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, in_channels), or class numbers [B, H, W] whose one-hot codes are meant, to (B, h, w, C) float32.

        Raises:
          UserError: x has other channels, or sides that cannot be halved so often.
        """
        if x.ndim == 3:
            x = jax.nn.one_hot(x, self.in_channels, dtype=jnp.float32)
        if x.shape[-1] != self.in_channels:
            raise UserError(f"the map has {x.shape[-1]} channels; this network takes {self.in_channels}")
        factor = 2**self.num_halvings
        if x.shape[1] % factor or x.shape[2] % factor:
            raise UserError(
                f"a map of {x.shape[1]}x{x.shape[2]} cannot be halved {self.num_halvings} times; choose sides that "
                f"divide by {factor}"
            )
        for _ in range(self.num_halvings):
            x = halve(x)
        return x if self.mapper is None else self.mapper(x)
