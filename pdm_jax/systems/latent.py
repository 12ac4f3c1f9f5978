"""Latents of a frozen first stage in the place of pixels (LDM section 3.1)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.config import Config, LatentConfig
from pdm_jax.errors import UserError
from pdm_jax.networks import Autoencoder, define
from pdm_jax.networks.autoencoder import draw
from pdm_jax.networks.functional import Definition
from pdm_jax.ops.images import to_float
from pdm_jax.ops.tiling import apply_tiled
from pdm_jax.systems.base import check_arguments, check_dtype
from pdm_jax.systems.space import Space
from pdm_jax.types import Array, Params

FIRST_STAGE, SCALE = "first_stage", "scale"  # frozen groups


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentSpace(Space):
    """Latents of an autoencoder times `scale`; of vq those before the codebook, which is looked up in decoding."""

    definition: Definition
    channels: int  # of latents
    stochastic: bool  # kl: latents are drawn from the posterior of their image
    encoded: bool = False  # the data holds moments (`pdm data encode`) in place of images

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, _ = self.picture
        return height // self.factor, width // self.factor, self.channels

    @property
    def inputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        if not self.encoded:
            return super().inputs
        height, width, channels = self.shape
        moments = (height, width, channels * (2 if self.stochastic else 1))
        return {"moments": jax.ShapeDtypeStruct(moments, jnp.float32)}

    @property
    def frozen(self) -> Params:
        return {FIRST_STAGE: self.definition.shapes, SCALE: jax.ShapeDtypeStruct((), jnp.float32)}

    def start(self, params: Params, batch: Mapping[str, Array], keys: Array) -> Array:
        moments = batch["moments"] if "moments" in batch else self.moments(params, to_float(batch["image"]))
        return params[SCALE] * self.draw(moments, rng.stream_each(keys, "posterior"))

    def encode(self, params: Params, images: Array) -> Array:
        return self.draw(self.moments(params, images), None)

    def moments(self, params: Params, images: Array) -> Array:
        """Images (B, H, W, C) in [-1, 1] to (B, h, w, c or 2c): latents before scaling; of kl means, log variances."""
        mean, log_variance = self.definition.bind(params[FIRST_STAGE]).moments(images)
        return mean if log_variance is None else jnp.concatenate([mean, log_variance], axis=-1)

    def draw(self, moments: Array, keys: Array | None) -> Array:
        """Latents (B, h, w, c) before scaling, of `moments`; the mean where there are no keys [B]."""
        if not self.stochastic:
            return moments
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        return mean if keys is None else draw(mean, log_variance, rng.normal_each(keys, mean.shape[1:]))

    def decode(self, params: Params, z: Array, tile: int | None = None) -> Array:
        stage, z = self.definition.bind(params[FIRST_STAGE]), z / params[SCALE]
        if tile is None or max(z.shape[1:3]) <= tile:
            return stage.decode(z)
        return apply_tiled(stage.decode, z, tile, tile // 2, scale=self.factor)


def make_space(config: Config) -> Space:
    """The space of a config's diffusion; raises `UserError` where first stage and images do not fit."""
    latent, picture = config.latent, (*config.data.size, config.data.channels)
    encoded = config.data.source.startswith("latents:")
    if latent.kind == "none":
        if latent.first_stage is not None or latent.training is not None or encoded:
            raise UserError("config.latent.kind is 'none' and there is a first stage or data of latents; give its kind")
        return Space(picture)
    definition, factor, channels = make_first_stage(latent, config.data.channels)
    check_multiple(*picture[:2], factor)
    return LatentSpace(
        picture, factor, definition=definition, channels=channels, stochastic=latent.kind == "kl", encoded=encoded
    )


def make_first_stage(latent: LatentConfig, colours: int) -> tuple[Definition, int, int]:
    """The autoencoder of a config, pixels a side for each place of its latents, and their channels.

    Raises:
      UserError: it is not described, or has not these settings.
    """
    if latent.kind not in ("kl", "vq"):
        raise UserError(f"config.latent.kind is {latent.kind!r}; expected 'none', 'kl' or 'vq'")
    if latent.network is None:
        raise UserError("config.latent.network is not set; give the autoencoder's settings, or first_stage")
    if latent.scale is not None and not (math.isfinite(latent.scale) and latent.scale > 0):
        raise UserError(f"config.latent.scale is {latent.scale}; expected a number above 0, or None (by the data)")
    check_dtype(latent.dtype)
    given = {"kind", "channels", "dtype", "rngs"}
    settings = check_arguments(Autoencoder, latent.network, given, "config.latent.network")
    own = {"kind": latent.kind, "channels": colours, "dtype": jnp.dtype(latent.dtype)}
    definition = define(lambda rngs: Autoencoder(rngs=rngs, **own, **settings))
    return definition, 2 ** (len(settings["channel_mult"]) - 1), settings["embed_dim"]


def check_multiple(height: int, width: int, factor: int) -> None:
    """Raises a `UserError` unless a first stage with this factor takes images of this size."""
    if height % factor or width % factor:
        fit = [f"{-(-side // factor) * factor}" for side in (height, width)]
        raise UserError(
            f"images of {height}x{width} do not divide by the first stage's {factor}; crop them, or pad them to "
            f"{fit[0]}x{fit[1]}"
        )
