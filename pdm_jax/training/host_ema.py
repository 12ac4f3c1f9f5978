"""Averaged weights as one copy in host memory (PDM appendix C): none of the devices' memory, little of their time."""

from __future__ import annotations

import jax
import numpy as np
from jax.experimental import multihost_utils

from pdm_jax.config import EmaConfig
from pdm_jax.training.averages import new_share
from pdm_jax.types import Params


class HostEma:
    """`averages.update_ema` in numpy."""

    def __init__(self, config: EmaConfig, params: Params):
        self.config = config
        self.values = fetch(params)

    def update(self, step: int, params: Params) -> None:
        """Takes the parameters after update number `step`, counted from 0."""
        if step % self.config.every:
            return
        weight = np.float32(new_share(self.config, step, np))
        self.values = jax.tree.map(lambda average, p: average + weight * (p - average), self.values, fetch(params))


def fetch(params: Params) -> Params:
    """Whole arrays as numpy on every host, wherever their shards lie."""
    return jax.device_get(jax.tree.map(_gathered, params))


def _gathered(x: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """An array that this host can read: as it is, or from all hosts if some of its shards lie on others only."""
    is_here = not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
    return x if is_here else multihost_utils.process_allgather(x, tiled=True)
