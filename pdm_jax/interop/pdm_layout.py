"""The order and the names of PDM's tensors in its two official programs, beside our paths.

The TensorFlow program's h5 files go by position and the PyTorch program's state dicts by name. Both hold the
same tensors in the same order, so one list serves both. It is read off the shapes of the network at hand, and
so holds for any config.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pdm_jax.interop.entries import Entry
from pdm_jax.types import Params

# Our layer, its name there, and the rank of its weight there; in the order of the official files.
_Layers = tuple[tuple[str, str, int], ...]
_BLOCK: _Layers = (
    ("norm_in", "in_layers.0", 1),
    ("conv_in", "in_layers.2", 4),
    ("gate", "classemb_proj", 2),
    ("modulation", "emb_layers", 2),
    ("conv_out", "out_layers.2", 4),
    ("skip", "skip_connection", 4),
)
_ATTENTION: _Layers = (("norm", "norm", 1), ("qkv", "qkv", 3), ("out", "proj_out", 3))
_MEMBERS: dict[str, _Layers] = {"block": _BLOCK, "attention": _ATTENTION, "up": (("conv", "conv", 4),)}
_DOWN: _Layers = (("conv", "op", 4),)
_TIME: _Layers = (("dense_in", "0", 2), ("dense_out", "2", 2))
_VARIANCE: _Layers = (
    ("modulation", "variance_output_t_emb", 4),
    ("conv_in", "variance_output_model.0", 4),
    ("conv_out", "variance_output_model.2", 4),
)


def layout(shapes: Params) -> list[Entry]:
    """All tensors of a `PDMUNet` in the official order, from the nested dict of its shapes."""
    return list(_network(shapes))


def _network(shapes: Params) -> Iterator[Entry]:
    if "label_embedding" in shapes:
        yield Entry(("label_embedding", "embedding"), "label_embs.weight", 2)
    yield from _layers(shapes["time_mlp"], ("time_mlp",), "time_embed.", _TIME)
    yield from _layers(shapes, (), "input_blocks.0.", (("conv_in", "0", 4),))
    for i, stage in sorted(shapes["encoder"].items()):
        yield from _stage(stage, ("encoder", i), f"input_blocks.{i + 1}")
    first, last = shapes["middle"][0], shapes["middle"][1]
    yield from _stage(first, ("middle", 0), "middle_block")
    yield from _stage(last, ("middle", 1), "middle_block", start=len(first))
    for i, stage in sorted(shapes["decoder"].items()):
        yield from _stage(stage, ("decoder", i), f"output_blocks.{i}")
    yield from _layers(shapes, (), "out.", (("norm_out", "0", 1), ("conv_out", "2", 4)))
    yield from _layers(shapes.get("variance_head", {}), ("variance_head",), "", _VARIANCE)


def _stage(stage: Mapping, path: tuple, prefix: str, start: int = 0) -> Iterator[Entry]:
    """A strided convolution, or a block and what follows it; members are numbered from `start`."""
    if "block" not in stage:
        yield from _layers(stage, path, f"{prefix}.0.", _DOWN)
        return
    for i, member in enumerate([member for member in _MEMBERS if member in stage], start):
        yield from _layers(stage[member], (*path, member), f"{prefix}.{i}.", _MEMBERS[member])


def _layers(tree: Mapping, path: tuple, prefix: str, layers: _Layers) -> Iterator[Entry]:
    """The weight and bias of those `layers` that the tree has."""
    for ours, theirs, rank in layers:
        if ours in tree:
            weight = "kernel" if "kernel" in tree[ours] else "scale"
            yield Entry((*path, ours, weight), f"{prefix}{theirs}.weight", rank)
            yield Entry((*path, ours, "bias"), f"{prefix}{theirs}.bias", 1)
