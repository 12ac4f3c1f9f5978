"""The mesh: `data` (batch) times `fsdp` (batch, parameters and optimiser state)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Arranges devices (default: all) as the config says.

    Raises:
      UserError: more than one -1, or sizes that do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = {"data": config.data, "fsdp": config.fsdp}
    free = [name for name, size in sizes.items() if size == -1]
    known = int(np.prod([size for size in sizes.values() if size != -1]))
    if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise UserError(f"config.mesh is {sizes}; expected positive sizes, at most one of them -1")
    if free and len(devices) % known == 0:
        sizes[free[0]] = len(devices) // known
    if int(np.prod(list(sizes.values()))) != len(devices):
        raise UserError(f"config.mesh is {sizes}, which does not make up the {len(devices)} devices here")
    return Mesh(np.array(devices).reshape(tuple(sizes.values())), tuple(sizes))
