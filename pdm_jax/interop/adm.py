"""guided-diffusion's state dict of a U-Net to our parameters and back; both ways are exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from pdm_jax.interop import named
from pdm_jax.interop.entries import Entry
from pdm_jax.interop.matching import Shape
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Params

# Our layer, its name there, and the rank of its weight there; in the order of the official files.
Layers = tuple[tuple[str, str, int], ...]
_TOP: Layers = (
    ("time_in", "time_embed.0", 2),
    ("time_out", "time_embed.2", 2),
    ("label_embedding", "label_emb", 2),
    ("conv_in", "input_blocks.0.0", 4),
)
_HEAD: Layers = (("norm_out", "out.0", 1), ("conv_out", "out.2", 4))
_MEMBERS: Layers = (
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
    return named.load(tensors, definition, layout(definition.shapes))


def to_official(params: Params, definition: Definition) -> dict[str, np.ndarray]:
    """The inverse of `load`: the state dict, in its order."""
    return named.to_official(params, layout(definition.shapes))


def official_shapes(definition: Definition) -> dict[str, Shape]:
    """Names and shapes of the program's state dict, in its order."""
    return named.official_shapes(definition, layout(definition.shapes))


def plain_layer(tree: Params, path: tuple, prefix: str) -> Iterator[Entry]:
    """The tensors of a block, of attention or of resampling, from the nested dict of its shapes."""
    yield from layers(tree, path, prefix, _MEMBERS)


def layout(shapes: Params, layer: Callable[[Params, tuple, str], Iterator[Entry]] = plain_layer) -> list[Entry]:
    """All tensors in the official order, from the nested dict of shapes of a network like an `ADMUNet`.

    Args:
      layer: gives the entries of one layer of a stage, as `plain_layer` does.
    """
    stages = [(("encoder", i), f"input_blocks.{i + 1}", stage) for i, stage in sorted(shapes["encoder"].items())]
    stages += [(("middle",), "middle_block", shapes["middle"])]
    stages += [(("decoder", i), f"output_blocks.{i}", stage) for i, stage in sorted(shapes["decoder"].items())]
    entries = [*layers(shapes, (), "", _TOP)]
    for path, prefix, stage in stages:
        for i, tree in sorted(stage["layers"].items()):
            entries += layer(tree, (*path, "layers", i), f"{prefix}.{i}.")
    return [*entries, *layers(shapes, (), "", _HEAD)]


def layers(tree: Params, path: tuple, prefix: str, table: Layers) -> Iterator[Entry]:
    """The weight and bias of those layers of a table that the tree has."""
    for ours, theirs, rank in table:
        for leaf in (*_WEIGHTS, "bias"):
            if leaf in tree.get(ours, {}):
                kind, leaf_rank = ("bias", 1) if leaf == "bias" else ("weight", rank)
                yield Entry((*path, ours, leaf), f"{prefix}{theirs}.{kind}", leaf_rank)
