"""From a host's own part of a batch to arrays over the whole mesh."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from pdm_jax.errors import UserError
from pdm_jax.parallel.sharding import num_batch_shards


@dataclasses.dataclass(frozen=True)
class Share:
    """What a host reads of each batch: part `index` of `count` equal parts."""

    index: int
    count: int


@functools.cache
def host_share(mesh: Mesh, process: int | None = None) -> Share:
    """The part of the batch that a process (default: this one) reads; those that share images read the same part.

    Raises:
      UserError: the samples of a process are not one whole part of the batch.
    """
    process = jax.process_index() if process is None else process
    shards = mesh.devices.reshape(num_batch_shards(mesh), -1)  # (shares of the batch, shares of an image)
    mine = [i for i, devices in enumerate(shards) if any(device.process_index == process for device in devices)]
    first, num = mine[0], len(mine)
    if mine != list(range(first, first + num)) or first % num or len(shards) % num:
        raise UserError(
            f"config.mesh gives process {process} the batch's shares {mine} of {len(shards)}; expected a whole part: "
            "choose sizes that divide, or are multiples of, the devices of one process"
        )
    return Share(first // num, len(shards) // num)


def place(local: np.ndarray, sharding: NamedSharding, share: Share) -> jax.Array:
    """This host's samples (b, ...) onto its devices, as its part of the global array (b * share.count, ...)."""
    shape = (len(local) * share.count, *local.shape[1:])
    return jax.make_array_from_process_local_data(sharding, local, shape)
