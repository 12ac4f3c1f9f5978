"""What diffusion is of, and how images become it: pixels are it themselves; for latents see `latent`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from pdm_jax.ops.images import to_float
from pdm_jax.types import Array, Params


@dataclasses.dataclass(frozen=True)
class Space:
    """Pixels: images in [-1, 1] themselves. Also what other spaces are made like."""

    picture: tuple[int, int, int]  # (H, W, C) of images
    factor: int = 1  # pixels a side for each place of what is sampled

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, c) of what is sampled."""
        return self.picture

    @property
    def inputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What a batch holds of each image."""
        return {"image": jax.ShapeDtypeStruct(self.picture, jnp.uint8)}

    @property
    def frozen(self) -> Params:
        """Shapes of the frozen groups that it needs in `params`."""
        return {}

    def start(self, params: Params, batch: Mapping[str, Array], keys: Array) -> Array:
        """x0 (B, h, w, c), where diffusion starts, of a batch; `keys` [B] draw from a posterior, if there is one."""
        return to_float(batch["image"])

    def encode(self, params: Params, images: Array) -> Array:
        """Images (B, H, W, C) in [-1, 1] as (B, h, w, c) to be told of: means of latents, before scaling."""
        return images

    def decode(self, params: Params, z: Array, tile: int | None = None) -> Array:
        """Images (B, H, W, C), float, of what was sampled; latents in tiles of this side if they are larger."""
        return z
