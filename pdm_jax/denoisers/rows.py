"""Patches where their images lie: each device has whole rows of its own images, and half a patch of its neighbours'."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from pdm_jax.errors import UserError
from pdm_jax.ops.collage import pad_half
from pdm_jax.ops.devices import is_partitioned
from pdm_jax.parallel import BATCH_AXES
from pdm_jax.types import Array, Cond

Local = Callable[[Any, Array, Array, Cond], Any]  # (network, padded z, t, cond) -> arrays over the image, not padded


def over_devices(local: Local, network: nnx.Module, patch_size: int, z_t: Array, t: Array, cond: Cond) -> Any:
    """`local` of the padded images, or on a mesh, of each device's own images and its padded rows of them.

    A device with n rows of patches needs n + 1 rows at half-patch offsets. The shared one is computed on both sides:
    that takes no longer, since n + 1 of them cannot be dealt out evenly, and moves pixels instead of features.

    Args:
      local: its z, `cond.concat` and `cond.mask` are padded by half a patch, `cond.position` has n + 1 rows.

    Raises:
      UserError: `space` does not divide the rows of patches.
    """
    if not is_partitioned():
        whole = {name: _map(lambda x: pad_half(x, patch_size), getattr(cond, name)) for name in ("concat", "mask")}
        return local(network, pad_half(z_t, patch_size), t, dataclasses.replace(cond, **whole))
    rows, space = z_t.shape[1] // patch_size, jax.sharding.get_abstract_mesh().shape["space"]
    if rows % space:
        raise UserError(
            f"{rows} rows of patches cannot be shared by {space} devices along space; choose a divisor of {rows}"
        )
    graphdef, params = nnx.split(network)
    images, samples = PartitionSpec(BATCH_AXES, "space"), PartitionSpec(BATCH_AXES)
    over_images = ("concat", "mask")

    def on_device(params: Any, z: Array, t: Array, own: Cond) -> Any:
        padded = {
            name: _map(lambda x: _with_neighbours(x, patch_size, space), getattr(own, name)) for name in over_images
        }
        first = jax.lax.axis_index("space") * (rows // space)
        position = _map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, rows // space + 1, axis=1), own.position)
        own = dataclasses.replace(own, position=position, **padded)
        return local(nnx.merge(graphdef, params), _with_neighbours(z, patch_size, space), t, own)

    fields = {f.name: images if f.name in over_images else samples for f in dataclasses.fields(cond)}
    wanted = Cond(**{name: None if getattr(cond, name) is None else spec for name, spec in fields.items()})
    return jax.shard_map(
        on_device,
        in_specs=(PartitionSpec(), images, PartitionSpec() if len(t) == 1 else samples, wanted),
        out_specs=images,
        check_vma=False,
    )(params, z_t, t, cond)


def _with_neighbours(x: Array, patch_size: int, space: int) -> Array:
    """A device's rows x (B, h, W, C) with half a patch around: rows of its neighbours, zeros at the image's ends."""
    if space == 1:
        return pad_half(x, patch_size)
    half = patch_size // 2
    above = jax.lax.ppermute(x[:, -half:], "space", [(i, i + 1) for i in range(space - 1)])
    below = jax.lax.ppermute(x[:, :half], "space", [(i + 1, i) for i in range(space - 1)])
    return jnp.pad(jnp.concatenate([above, x, below], axis=1), ((0, 0), (0, 0), (half, half), (0, 0)))


def _map(function: Callable[[Array], Array], x: Array | None) -> Array | None:
    return None if x is None else function(x)
