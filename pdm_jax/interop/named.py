"""Parameters from tensors that go by name, and back, by a list of entries; both ways are exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from pdm_jax.interop.entries import Entry, path_of
from pdm_jax.interop.matching import Shape, match_names
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Params


def load(tensors: Mapping[str, np.ndarray], definition: Definition, entries: Sequence[Entry]) -> Params:
    """Parameters, a nested dict of float32 numpy arrays like `definition.shapes`.

    Raises:
      UserError: tensors are missing, surplus or misshapen; lists them by their names in the file.
    """
    match_names(tensors, official_shapes(definition, entries))
    by_path = {entry.path: entry for entry in entries}

    def convert(keys, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        entry = by_path[path_of(keys)]
        return np.ascontiguousarray(entry.from_torch(tensors[entry.torch_name], leaf.shape), np.float32)

    return jax.tree.map_with_path(convert, definition.shapes)


def to_official(params: Params, entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """The inverse of `load`: the tensors in the order of the entries."""
    arrays = {path_of(keys): np.asarray(leaf) for keys, leaf in jax.tree.leaves_with_path(params)}
    return {entry.torch_name: entry.to_torch(arrays[entry.path]) for entry in entries}


def official_shapes(definition: Definition, entries: Sequence[Entry]) -> dict[str, Shape]:
    """Names and shapes in the file, in the order of the entries."""
    shapes = {path_of(keys): leaf.shape for keys, leaf in jax.tree.leaves_with_path(definition.shapes)}
    return {entry.torch_name: entry.torch_shape(shapes[entry.path]) for entry in entries}
