"""Patch-DM's checkpoints to our parameters and back; both ways are exact.

A checkpoint holds the whole model twice, as `model.` and, averaged, as `ema_model.`: the U-Net, below `encoder.` the
semantic encoder or the table of codes, and below `latent_net.` the latent network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax
import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.interop import adm
from pdm_jax.interop.entries import Entry, path_of
from pdm_jax.interop.matching import match_names
from pdm_jax.interop.state_dicts import Tensors
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Params

TABLE = "encoder.semantic_enc.weight"
_COPIES = {"params": "model.", "ema": "ema_model."}
_STATISTICS = ("conds_mean", "conds_std")  # of the codes; no network has them
_ALIAS, _ALIASED = ".cond_layers.1.", ".linear_emb."  # the program has one tensor of the latent network twice


def copies(tensors: Tensors) -> dict[str, dict[str, np.ndarray]]:
    """The last and the averaged weights of a checkpoint, as `params` and `ema`, each by the names of the model.

    A file with one of them, or with the names of a model alone, gives it twice.

    Raises:
      UserError: the file has tensors of neither; lists them.
    """
    found = {
        kind: {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
        for kind, prefix in _COPIES.items()
    }
    if not any(found.values()):
        return {kind: dict(tensors) for kind in _COPIES}
    known = (*_COPIES.values(), *_STATISTICS)
    match_names({name: array for name, array in tensors.items() if not name.startswith(known)}, {})
    return {"params": found["params"] or found["ema"], "ema": found["ema"] or found["params"]}


def load(tensors: Tensors, definition: Definition, network: str) -> Params:
    """Parameters of one network.

    Args:
      tensors: of a model (see `copies`); those of its other networks are left alone.
      definition: of a `PatchUNet`, a `CodeEncoder` or a `CodeMLP`.
      network: which of them: "unet", "encoder" or "latent".

    Returns:
      A nested dict of float32 numpy arrays like `definition.shapes`.

    Raises:
      UserError: tensors of the network are missing, surplus or misshapen; lists them by their names there.
    """
    own = {name: array for name, array in tensors.items() if _network_of(name) == network}
    own = _without_aliases(own) if network == "latent" else own
    entries, shapes = {entry.path: entry for entry in _layout(definition, network)}, _flatten(definition.shapes)
    match_names(own, {entry.torch_name: entry.torch_shape(shapes[path].shape) for path, entry in entries.items()})

    def convert(keys, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        entry = entries[path_of(keys)]
        return np.ascontiguousarray(entry.from_torch(own[entry.torch_name], leaf.shape), np.float32)

    return jax.tree.map_with_path(convert, definition.shapes)


def load_table(tensors: Tensors, num: int | None = None, dim: int | None = None) -> np.ndarray:
    """The table of codes (N, D), float32: one row a training image.

    Raises:
      UserError: the model has none, or one of other than `num` rows or `dim` columns.
    """
    if TABLE not in tensors:
        raise UserError(
            f"the file has no table of codes ({TABLE}); give one of a model that was trained with a code an image"
        )
    table = tensors[TABLE]
    match_names({TABLE: table}, {TABLE: (num or len(table), dim or table.shape[-1])})
    return np.asarray(table, np.float32)


def to_official(params: Params, definition: Definition, network: str) -> dict[str, np.ndarray]:
    """The inverse of `load`: the network's tensors by their names in a model, aliases included."""
    arrays = _flatten(params)
    found = {e.torch_name: e.to_torch(np.asarray(arrays[e.path])) for e in _layout(definition, network)}
    return found | {name.replace(_ALIASED, _ALIAS): array for name, array in found.items() if _ALIASED in name}


def _layout(definition: Definition, network: str) -> list[Entry]:
    """The tensors of a network by their names in a model."""
    prefix, layout = _NETWORKS[network].prefix, _NETWORKS[network].layout
    return [dataclasses.replace(e, torch_name=f"{prefix}{e.torch_name}") for e in layout(definition.shapes)]


def _network_of(name: str) -> str | None:
    """Which network a tensor of a model belongs to; None for the table."""
    if name == TABLE:
        return None
    return next((n for n in ("encoder", "latent") if name.startswith(_NETWORKS[n].prefix)), "unet")


def _without_aliases(tensors: Tensors) -> dict[str, np.ndarray]:
    found = {}
    for name, array in tensors.items():
        own = name.replace(_ALIAS, _ALIASED)
        if not np.array_equal(found.setdefault(own, array), array):
            raise UserError(f"the file has two versions of {own}, the other as {name}; save the model again")
    return found


def _flatten(tree: Params) -> dict[tuple, jax.Array]:
    return {path_of(keys): leaf for keys, leaf in jax.tree.leaves_with_path(tree)}


def _unet(shapes: Params) -> Iterator[Entry]:
    """ADM's tensors, the second condition of each block, and what embeds the conditions."""
    mlps = {"time": "time_embed.time_embed", "position": "time_embed.pos_embed", "code": "time_embed.style"}
    for ours, theirs in mlps.items():
        if ours in shapes:
            yield from _dense((ours, "dense_in"), f"{theirs}.0")
            yield from _dense((ours, "dense_out"), f"{theirs}.2")
    paths = _flatten(shapes)
    for entry in adm.layout(shapes):
        yield entry
        *place, layer, leaf = entry.path
        if layer == "modulation" and (path := (*place, "code_scale", leaf)) in paths:
            yield Entry(path, entry.torch_name.replace(".emb_layers.", ".cond_emb_layers."), entry.torch_rank)


def _encoder(shapes: Params) -> Iterator[Entry]:
    yield from adm.layout({"decoder": {}} | shapes)
    yield from _dense(("out",), "out.3", rank=4)


def _latent(shapes: Params) -> Iterator[Entry]:
    yield from _dense(("time_in",), "time_embed.0")
    yield from _dense(("time_out",), "time_embed.2")
    for i in sorted(shapes["layers"]):
        yield from _dense(("layers", i, "linear"), f"layers.{i}.linear")
        yield from _dense(("layers", i, "modulation"), f"layers.{i}.linear_emb")
        yield Entry(("layers", i, "norm", "scale"), f"layers.{i}.norm.weight", 1)
        yield Entry(("layers", i, "norm", "bias"), f"layers.{i}.norm.bias", 1)
    yield from _dense(("out",), f"layers.{len(shapes['layers'])}.linear")


def _dense(path: tuple[str | int, ...], name: str, *, rank: int = 2) -> Iterator[Entry]:
    yield Entry((*path, "kernel"), f"{name}.weight", rank)
    yield Entry((*path, "bias"), f"{name}.bias", 1)


@dataclasses.dataclass(frozen=True)
class _Network:
    prefix: str  # of its names in a model
    layout: Callable[[Params], Iterator[Entry]]  # its tensors by the names after the prefix, from its shapes


_NETWORKS = {
    "unet": _Network("", _unet),
    "encoder": _Network("encoder.", _encoder),
    "latent": _Network("latent_net.", _latent),
}
