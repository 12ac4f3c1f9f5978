"""Averaged weights: by how much an update moves them, on a device or on the host."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from pdm_jax.config import EmaConfig
from pdm_jax.types import Array, Params


def new_share(config: EmaConfig, step: Array | int, library: Any = jnp) -> Array | float:
    """The share of the parameters in the average after the 0-based `step`, which is a multiple of `every`.

    It is 1 - decay; with `warmup`, at the n-th update, from 1, the decay is at most (1 + n) / (10 + n) (LDM).

    Args:
      library: what computes: jax.numpy, or numpy on the host.
    """
    least = 1 - config.decay
    return library.maximum(least, 9 / (step // config.every + 11)) if config.warmup else least


def update_ema(ema: Params, params: Params, step: Array, config: EmaConfig) -> Params:
    """The averages after the 0-based `step`; steps that are no multiple of `every` leave them."""
    weight = jnp.where(step % config.every == 0, new_share(config, step), 0.0).astype(jnp.float32)
    return jax.tree.map(lambda average, p: average + weight * (p - average), ema, params)
