"""Weights of PDM's two official programs to our parameters and back; both ways are exact.

The TensorFlow program's tensors go by position: their names carry process-wide counters (`conv2d_17`), so that
two checkpoints of one network differ in them. The PyTorch program's go by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from pdm_jax.interop.entries import Entry, path_of
from pdm_jax.interop.matching import Shape, match_names, match_positions
from pdm_jax.interop.pdm_layout import layout
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Params

# Norm epsilon of the PyTorch program in norms with an affine map, 1e-3 in the others as everywhere in TensorFlow.
TORCH_NORM_EPS = 1e-5


def load(tensors: Sequence[tuple[str, np.ndarray]], definition: Definition) -> Params:
    """Parameters from the TensorFlow program's tensors.

    Args:
      tensors: names and arrays in the order of the h5 file; names serve error messages only.
      definition: of a `PDMUNet`.

    Returns:
      A nested dict of float32 numpy arrays like `definition.shapes`.

    Raises:
      UserError: tensors are missing, surplus or misshapen; lists them.
    """
    entries, shapes = _entries(definition)
    match_positions(tensors, [(entry.name, shapes[entry.path]) for entry in entries])
    return _nest({entry.path: array for entry, (_, array) in zip(entries, tensors, strict=True)}, definition)


def to_official(params: Params, definition: Definition) -> list[np.ndarray]:
    """The inverse of `load`: the arrays in the order of the h5 file."""
    flat = _flatten(params)
    return [np.asarray(flat[entry.path]) for entry in layout(definition.shapes)]


def load_torch(tensors: Mapping[str, np.ndarray], definition: Definition) -> Params:
    """Parameters from the PyTorch program's state dict.

    The network should have `norm_eps=TORCH_NORM_EPS` to compute what that program does.

    Args:
      tensors: the state dict, as numpy arrays.
      definition: of a `PDMUNet`.

    Returns:
      A nested dict of float32 numpy arrays like `definition.shapes`.

    Raises:
      UserError: tensors are missing, surplus or misshapen; lists them by their names there.
    """
    entries, shapes = _entries(definition)
    match_names(tensors, torch_shapes(definition))
    flat = {e.path: e.from_torch(tensors[e.torch_name], shapes[e.path]) for e in entries}
    return _nest(flat, definition)


def to_torch(params: Params, definition: Definition) -> dict[str, np.ndarray]:
    """The inverse of `load_torch`: the state dict, in its order."""
    flat = _flatten(params)
    return {entry.torch_name: entry.to_torch(np.asarray(flat[entry.path])) for entry in layout(definition.shapes)}


def torch_shapes(definition: Definition) -> dict[str, Shape]:
    """Names and shapes of the PyTorch program's state dict, in its order."""
    entries, shapes = _entries(definition)
    return {entry.torch_name: entry.torch_shape(shapes[entry.path]) for entry in entries}


def _entries(definition: Definition) -> tuple[list[Entry], dict[tuple, Shape]]:
    return layout(definition.shapes), {path: leaf.shape for path, leaf in _flatten(definition.shapes).items()}


def _flatten(tree: Params) -> dict[tuple, np.ndarray]:
    return {path_of(keys): leaf for keys, leaf in jax.tree.leaves_with_path(tree)}


def _nest(flat: Mapping[tuple, np.ndarray], definition: Definition) -> Params:
    return jax.tree.map_with_path(
        lambda keys, _: np.ascontiguousarray(flat[path_of(keys)], np.float32), definition.shapes
    )
