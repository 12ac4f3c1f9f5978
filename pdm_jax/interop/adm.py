"""guided-diffusion's state dict of a U-Net to our parameters and back; both ways are exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import jax
import numpy as np

from pdm_jax.interop.entries import Entry, path_of
from pdm_jax.interop.matching import Shape, match_names
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Params

# Our layer, its name there, and the rank of its weight there; in the order of the official files.
_Layers = tuple[tuple[str, str, int], ...]
_TOP: _Layers = (
    ("time_in", "time_embed.0", 2),
    ("time_out", "time_embed.2", 2),
    ("label_embedding", "label_emb", 2),
    ("conv_in", "input_blocks.0.0", 4),
)
_HEAD: _Layers = (("norm_out", "out.0", 1), ("conv_out", "out.2", 4))
_MEMBERS: _Layers = (
    # of a block
    ("norm_in", "in_layers.0", 1),
    ("conv_in", "in_layers.2", 4),
    ("modulation", "emb_layers.1", 2),
    ("norm_out", "out_layers.0", 1),
    ("conv_out", "out_layers.3", 4),
    ("skip", "skip_connection", 4),
    # of attention
    ("norm", "norm", 1),
    ("qkv", "qkv", 3),
    ("out", "proj_out", 3),
    # of resampling by convolutions
    ("strided", "op", 4),
    ("conv", "conv", 4),
)
_WEIGHTS = ("kernel", "scale", "embedding")  # a layer has one of them; all are `weight` there


def load(tensors: Mapping[str, np.ndarray], definition: Definition) -> Params:
    """Parameters from guided-diffusion's tensors.

    Args:
      tensors: the state dict, as numpy arrays.
      definition: of an `ADMUNet`; for released files with `has_null=False` and `attention_order="legacy"`, or "new"
        for the 64x64 network.

    Returns:
      A nested dict of float32 numpy arrays like `definition.shapes`.

    Raises:
      UserError: tensors are missing, surplus or misshapen; lists them by their names there.
    """
    match_names(tensors, official_shapes(definition))
    entries = {entry.path: entry for entry in layout(definition.shapes)}

    def convert(keys, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        entry = entries[path_of(keys)]
        return np.ascontiguousarray(entry.from_torch(tensors[entry.torch_name], leaf.shape), np.float32)

    return jax.tree.map_with_path(convert, definition.shapes)


def to_official(params: Params, definition: Definition) -> dict[str, np.ndarray]:
    """The inverse of `load`: the state dict, in its order."""
    arrays = {path_of(keys): np.asarray(leaf) for keys, leaf in jax.tree.leaves_with_path(params)}
    return {entry.torch_name: entry.to_torch(arrays[entry.path]) for entry in layout(definition.shapes)}


def official_shapes(definition: Definition) -> dict[str, Shape]:
    """Names and shapes of the program's state dict, in its order."""
    shapes = {path_of(keys): leaf.shape for keys, leaf in jax.tree.leaves_with_path(definition.shapes)}
    return {entry.torch_name: entry.torch_shape(shapes[entry.path]) for entry in layout(definition.shapes)}


def layout(shapes: Params) -> list[Entry]:
    """All tensors of an `ADMUNet` in the official order, from the nested dict of its shapes."""
    return list(_network(shapes))


def _network(shapes: Params) -> Iterator[Entry]:
    yield from _layers(shapes, (), "", _TOP)
    for i, stage in sorted(shapes["encoder"].items()):
        yield from _stage(stage, ("encoder", i), f"input_blocks.{i + 1}")
    yield from _stage(shapes["middle"], ("middle",), "middle_block")
    for i, stage in sorted(shapes["decoder"].items()):
        yield from _stage(stage, ("decoder", i), f"output_blocks.{i}")
    yield from _layers(shapes, (), "", _HEAD)


def _stage(stage: Params, path: tuple, prefix: str) -> Iterator[Entry]:
    for i, layer in sorted(stage["layers"].items()):
        yield from _layers(layer, (*path, "layers", i), f"{prefix}.{i}.", _MEMBERS)


def _layers(tree: Params, path: tuple, prefix: str, layers: _Layers) -> Iterator[Entry]:
    """The weight and bias of those `layers` that the tree has."""
    for ours, theirs, rank in layers:
        for leaf in (*_WEIGHTS, "bias"):
            if leaf in tree.get(ours, {}):
                kind, leaf_rank = ("bias", 1) if leaf == "bias" else ("weight", rank)
                yield Entry((*path, ours, leaf), f"{prefix}{theirs}.{kind}", leaf_rank)
