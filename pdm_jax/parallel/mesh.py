"""The mesh: `data` (batch) times `fsdp` (batch, parameters and optimiser state) times `space` (rows of images)."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Arranges devices (default: all) as the config says; neighbours along `space` come first, then along `fsdp`.

    Raises:
      UserError: more than one -1, or sizes that do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = dataclasses.asdict(config)
    free = [name for name, size in sizes.items() if size == -1]
    if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise UserError(f"config.mesh is {_show(sizes)}; expected positive sizes, at most one of them -1")
    known = math.prod(size for size in sizes.values() if size != -1)
    if free and len(devices) % known == 0:
        sizes[free[0]] = len(devices) // known
    if math.prod(sizes.values()) != len(devices):
        raise UserError(
            f"config.mesh is {_show(sizes)}, which does not make up the {len(devices)} devices here; "
            f"the nearest that does is {_show(_nearest(sizes, len(devices)))}"
        )
    return Mesh(np.array(devices).reshape(tuple(sizes.values())), tuple(sizes))


def on_mesh(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """The function, which knows the mesh while it is traced: `jax.sharding.get_abstract_mesh()` gives it inside.

    So what is good on one device only can see that the program runs on several (`ops.devices`).
    """

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return traced


def check_rows(mesh: Mesh, rows: int, what: str) -> None:
    """Raises a `UserError` unless `space` of the mesh divides `rows`, which are those of `what`."""
    space = mesh.shape["space"]
    if rows % space:
        raise UserError(
            f"space is {space} in the mesh, which does not divide the {rows} rows of {what}; "
            f"the nearest that does is {_nearest_divisor(rows, space)}"
        )


def _nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` that is closest to `wanted`, the smaller of two."""
    divisors = [n for n in range(1, number + 1) if number % n == 0]
    return min(divisors, key=lambda n: abs(n - wanted))


def _nearest(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Sizes close to those wanted that make up `count` devices; the free axis, or else `data`, takes what is left."""
    rest = next((name for name, size in sizes.items() if size == -1), "data")
    found, left = dict(sizes), count
    for name in reversed([name for name in sizes if name != rest]):
        found[name] = _nearest_divisor(left, sizes[name])
        left //= found[name]
    return found | {rest: left}


def _show(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())
