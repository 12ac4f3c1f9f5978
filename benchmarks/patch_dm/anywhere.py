"""The loss of patches that are cut anywhere, as those that move in pixels are when they are sampled."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.config import Config
from pdm_jax.networks.functional import Definition
from pdm_jax.ops.images import to_float
from pdm_jax.systems import System
from pdm_jax.systems.base import Loss
from pdm_jax.systems.patch_loss import Patches, noisy_window, window_loss
from pdm_jax.types import Array, Cond, Params


def make_loss(config: Config, system: System, unet: Definition) -> Loss:
    """The error of four neighbouring patches by themselves, whose corner is any pixel, over the border as well.

    As the released loss's term without collage, whose patches lie at half-patch offsets only.
    """
    patch_size, (height, width) = config.model.patch_size, config.data.size

    def loss(params: Params, batch: Mapping[str, Array], keys: Array) -> tuple[Array, dict[str, Array]]:
        start = jnp.stack(
            [
                rng.randint_each(rng.stream_each(keys, name), 1 - patch_size, side - patch_size)
                for name, side in (("row", height), ("column", width))
            ],
            axis=-1,
        )
        t = rng.randint_each(rng.stream_each(keys, "t"), config.loss.t_min, config.loss.t_max)
        x0 = to_float(batch["image"])
        x0, inside = (jax.vmap(lambda x, at: _window(x, at, patch_size))(x, start) for x in (x0, x0[..., :1] * 0 + 1))
        eps = rng.normal_each(rng.stream_each(keys, "noise"), x0.shape[1:])
        window = noisy_window(x0, inside, eps, t, system.process, config.model.prediction)
        cond = Cond(code=system.codes(params, batch), position=_positions(start, patch_size))
        return window_loss(Patches(unet.bind(params["network"]["unet"]), patch_size), window, t, cond, "plain")

    return loss


def _window(x: Array, start: Array, patch_size: int) -> Array:
    """The 2P x 2P pixels of x (H, W, C) from `start` on, zeros outside."""
    padded = jnp.pad(x, ((patch_size, patch_size), (patch_size, patch_size), (0, 0)))
    return jax.lax.dynamic_slice(padded, (*(start + patch_size), 0), (2 * patch_size, 2 * patch_size, x.shape[-1]))


def _positions(start: Array, patch_size: int) -> Array:
    """Positions (B, 2, 2, 3) of the patches of windows: an aligned patch's are i + 0.5 and j + 0.5."""
    first = start.astype(jnp.float32) / patch_size + 0.5
    corners = jnp.stack(jnp.meshgrid(jnp.arange(2.0), jnp.arange(2.0), indexing="ij"), axis=-1)
    where = first[:, None, None] + corners[None]
    return jnp.concatenate([where, jnp.ones_like(where[..., :1])], axis=-1)
