"""Whether what is restored is what was saved: names and shapes before reading, checksums after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.types import Array

_MOST_NAMES = 8


class DamagedError(Exception):
    """What was read is not what was saved."""


def checksums(tree: Any) -> dict[str, int]:
    """A sum of the bits of each array, modulo 2 ** 32, by path; any one flipped bit changes it.

    Sums are taken where the arrays lie, whatever their sharding.
    """
    named = _by_path(tree)
    sums = jax.device_get(_sums({name: x for name, x in named.items() if isinstance(x, jax.Array)}))
    sums |= {name: _sum_numpy(x) for name, x in named.items() if not isinstance(x, jax.Array)}
    return {name: int(value) for name, value in sums.items()}


def check_sums(tree: Any, saved: Mapping[str, int]) -> None:
    """Raises `DamagedError` if an array of `tree` has other bits than when it was saved."""
    wrong = [name for name, value in checksums(tree).items() if saved.get(name) != value]
    if wrong:
        raise DamagedError(f"the bits of {wrong[0]} are not those that were saved")


def check_names(saved: Any, template: Mapping[str, Any], place: str) -> None:
    """Compares the arrays of a checkpoint with those that are wanted, under each key of `template`.

    Args:
      saved: the checkpoint's metadata: a tree of what has a `shape`.
      template: the tree that is to be restored, or some of its top-level keys.
      place: the checkpoint, for the message.

    Raises:
      UserError: an array is missing, left over or of another shape; names each, up to a number.
    """
    wanted = {name: x.shape for name, x in _by_path(template).items()}
    found = {name: tuple(x.shape) for name, x in _by_path(saved).items() if name.split("/")[0] in template}
    problems = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    problems += [f"{name} has no place" for name in found.keys() - wanted.keys()]
    problems += [
        f"{name} is {found[name]}, wanted {wanted[name]}"
        for name in wanted.keys() & found.keys()
        if found[name] != wanted[name]
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:_MOST_NAMES])
        more = f"; and {len(problems) - _MOST_NAMES} more" if len(problems) > _MOST_NAMES else ""
        raise UserError(f"{place} is of another network: {shown}{more}. Use the config it was made with")


@jax.jit
def _sums(arrays: dict[str, Array]) -> dict[str, Array]:
    def bits(x: Array) -> Array:
        unsigned = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
        return jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32).sum(dtype=jnp.uint32)

    return jax.tree.map(bits, arrays)


def _sum_numpy(x: np.ndarray) -> int:
    x = np.ascontiguousarray(x)
    return int(x.view(f"u{x.dtype.itemsize}").sum(dtype=np.uint32))


def _by_path(tree: Any) -> dict[str, Any]:
    """Leaves that have a shape, by path: dictionary keys, attributes and positions joined by slashes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {"/".join(map(_name, path)): leaf for path, leaf in leaves if hasattr(leaf, "shape")}


def _name(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
