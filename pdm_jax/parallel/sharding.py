"""Sharding as data: shapes in, `NamedSharding`s out; models hold no mesh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pdm_jax.types import Array, Params

BATCH_AXES = ("data", "fsdp")


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on all devices."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, *, leading: int = 0) -> NamedSharding:
    """The batch axis over `data` and `fsdp`, behind `leading` unsharded axes."""
    return NamedSharding(mesh, PartitionSpec(*[None] * leading, BATCH_AXES))


def image_sharding(mesh: Mesh, *, leading: int = 0) -> NamedSharding:
    """Images (B, H, W, C): the batch over `data` and `fsdp`, rows over `space`."""
    return NamedSharding(mesh, PartitionSpec(*[None] * leading, BATCH_AXES, "space"))


def batch_shardings(mesh: Mesh, batch: Mapping[str, Any], *, leading: int = 0) -> dict[str, NamedSharding]:
    """Where the arrays of a batch lie: those over the image (B, H, W, C) by rows too, the others by sample only."""
    rules = {True: image_sharding(mesh, leading=leading), False: batch_sharding(mesh, leading=leading)}
    return {name: rules[len(x.shape) - leading == 4] for name, x in batch.items()}


def num_batch_shards(mesh: Mesh) -> int:
    """Into how many shares a batch is cut."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def whole_if_few_rows(x: Array) -> Array:
    """Features (B, H, W, C) with all rows on every device where a device would have fewer than two; for traced code.

    Sending halos of single rows costs as much as the rows, and with 2 rows over 2 devices XLA's partitioner (0.10)
    counts the gradient of a convolution once for each share of the batch.
    """
    mesh = jax.sharding.get_abstract_mesh()
    space = dict(mesh.shape).get("space", 1)
    if space == 1 or x.shape[1] >= 2 * space or "space" in mesh.manual_axes:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES))


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


def gathered(params: Params, mesh: Mesh) -> Params:
    """Parameters that lie over `fsdp`, whole on every device; their gradients are summed and cut up again.

    Said once for all parameters, so that the compiler moves weights and never activations.
    """
    if mesh.shape["fsdp"] == 1:
        return params
    shardings = param_shardings(mesh, params)

    @jax.custom_vjp
    def gather(params: Params) -> Params:
        return jax.lax.with_sharding_constraint(params, replicated(mesh))

    def backward(_: None, grads: Params) -> tuple[Params]:
        return (jax.lax.with_sharding_constraint(grads, shardings),)

    gather.defvjp(lambda params: (gather(params), None), backward)
    return gather(params)
