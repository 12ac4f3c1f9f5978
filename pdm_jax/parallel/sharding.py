"""Sharding as data: shapes in, `NamedSharding`s out; models hold no mesh."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pdm_jax.types import Params


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on all devices."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, *, leading: int = 0) -> NamedSharding:
    """The batch axis over `data` and `fsdp`, behind `leading` unsharded axes."""
    return NamedSharding(mesh, PartitionSpec(*[None] * leading, ("data", "fsdp")))


def param_shardings(mesh: Mesh, shapes: Params) -> Any:
    """Each array's largest axis that `fsdp` divides lies over it; arrays without one are replicated."""
    size = mesh.shape["fsdp"]

    def rule(leaf) -> NamedSharding:
        axes = [axis for axis, n in enumerate(leaf.shape) if size > 1 and n % size == 0]
        if not axes:
            return replicated(mesh)
        largest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))

    return jax.tree.map(rule, shapes)


def with_shardings(shapes: Params, shardings: Any) -> Any:
    """ShapeDtypeStructs that say where each array lies, as restoring needs them."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
