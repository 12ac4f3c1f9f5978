"""First stages of latent-diffusion's program: their state dicts as our parameters and back; both ways are exact."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from pdm_jax.interop import torchvision_files
from pdm_jax.interop.entries import Entry, path_of
from pdm_jax.interop.matching import Shape, match_names
from pdm_jax.interop.state_dicts import Tensors
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Params

_LOSS = "loss."  # what a checkpoint of the first stage's own training holds besides
_CRITIC, _PERCEPTUAL = "loss.discriminator.", "loss.perceptual_loss."
_STATISTICS = r".*\.(running_mean|running_var|num_batches_tracked)"  # of batch norm, which training does not read
# Our layers and their names there, in the order of the official files.
_BLOCK = {"norm_in": "norm1", "conv_in": "conv1", "norm_out": "norm2", "conv_out": "conv2", "skip": "nin_shortcut"}
_ATTENTION = {"norm": "norm", "q": "q", "k": "k", "v": "v", "out": "proj_out"}
_WEIGHTS = ("kernel", "scale")  # a layer has one of them; both are `weight` there


def load(tensors: Tensors, definition: Definition) -> Params:
    """Parameters of a first stage.

    Args:
      tensors: the state dict without the prefix that it has in a diffusion model; `loss.*` is passed over.
      definition: of an `Autoencoder`.

    Returns:
      A nested dict of float32 numpy arrays like `definition.shapes`.

    Raises:
      UserError: tensors are missing, surplus or misshapen; lists them by their names there.
    """
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(_LOSS)}
    return _converted(own, list(_autoencoder(definition.shapes)), definition.shapes)


def load_critic(tensors: Tensors, definition: Definition) -> Params:
    """Parameters of the `PatchCritic` of a first stage's training, from its `loss.discriminator.*`; see `load`."""
    own = {name: x for name, x in _below(tensors, _CRITIC).items() if not re.fullmatch(_STATISTICS, name)}
    return _converted(own, list(_critic(definition.shapes)), definition.shapes)


def load_perceptual(tensors: Tensors, shapes: Params) -> Params:
    """Parameters of the `LPIPS` (VGG16) of a first stage's training, from its `loss.perceptual_loss.*`; see `load`.

    Args:
      shapes: of the network's parameters.
    """
    own = _below(tensors, _PERCEPTUAL)
    backbone = {re.sub(r"net\.slice\d+", "features", name): x for name, x in own.items() if name.startswith("net.")}
    heads = {name: x for name, x in own.items() if name.startswith("lin")}
    return {
        "backbone": torchvision_files.load_vgg16(backbone, shapes["backbone"]),
        "heads": torchvision_files.load_heads(heads, shapes["heads"]),
    }


def to_official(params: Params, definition: Definition) -> dict[str, np.ndarray]:
    """The inverse of `load`: the state dict, in its order."""
    arrays = {path_of(keys): np.asarray(leaf) for keys, leaf in jax.tree.leaves_with_path(params)}
    return {entry.torch_name: entry.to_torch(arrays[entry.path]) for entry in _autoencoder(definition.shapes)}


def official_shapes(definition: Definition) -> dict[str, Shape]:
    """Names and shapes of a first stage's state dict, in its order."""
    return _shapes(list(_autoencoder(definition.shapes)), definition.shapes)


def official_critic_shapes(definition: Definition) -> dict[str, Shape]:
    """Names and shapes of the critic's parameters, `main.0.weight` and on."""
    return _shapes(list(_critic(definition.shapes)), definition.shapes)


def _below(tensors: Tensors, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def _shapes(entries: list[Entry], shapes: Params) -> dict[str, Shape]:
    own = {path_of(keys): leaf.shape for keys, leaf in jax.tree.leaves_with_path(shapes)}
    return {entry.torch_name: entry.torch_shape(own[entry.path]) for entry in entries}


def _converted(tensors: Mapping[str, np.ndarray], entries: list[Entry], shapes: Params) -> Params:
    match_names(tensors, _shapes(entries, shapes))
    by_path = {entry.path: entry for entry in entries}

    def convert(keys, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        entry = by_path[path_of(keys)]
        return np.ascontiguousarray(entry.from_torch(tensors[entry.torch_name], leaf.shape), np.float32)

    return jax.tree.map_with_path(convert, shapes)


def _autoencoder(shapes: Params) -> Iterator[Entry]:
    yield from _half(shapes["encoder"], ("encoder",), "encoder.", ("down", "downsample"))
    yield from _half(shapes["decoder"], ("decoder",), "decoder.", ("up", "upsample"))
    if "codebook" in shapes:
        yield Entry(("codebook", "embedding"), "quantize.embedding.weight", 2)
    yield from _layer(shapes["to_latent"], ("to_latent",), "quant_conv")
    yield from _layer(shapes["from_latent"], ("from_latent",), "post_quant_conv")


def _half(tree: Params, path: tuple, prefix: str, names: tuple[str, str]) -> Iterator[Entry]:
    """The encoder or the decoder, which differ in the order of levels and middle and in the names of these."""
    level_name, resize_name = names
    levels = [entry for i, level in sorted(tree["levels"].items())
              for entry in _level(level, (*path, "levels", i), f"{prefix}{level_name}.{i}.", resize_name)]  # fmt: skip
    middle = list(_middle(tree["middle"], (*path, "middle"), f"{prefix}mid."))
    yield from _layer(tree["conv_in"], (*path, "conv_in"), f"{prefix}conv_in")
    yield from levels + middle if level_name == "down" else middle + levels
    for name in ("norm_out", "conv_out"):
        yield from _layer(tree[name], (*path, name), prefix + name)


def _level(level: Params, path: tuple, prefix: str, resize_name: str) -> Iterator[Entry]:
    for ours, theirs, layers in (("blocks", "block", _BLOCK), ("attentions", "attn", _ATTENTION)):
        for i, part in sorted(level.get(ours, {}).items()):
            yield from _layers(part, (*path, ours, i), f"{prefix}{theirs}.{i}.", layers)
    if "resize" in level:
        yield from _layer(level["resize"]["conv"], (*path, "resize", "conv"), f"{prefix}{resize_name}.conv")


def _middle(middle: Params, path: tuple, prefix: str) -> Iterator[Entry]:
    yield from _layers(middle["block_in"], (*path, "block_in"), f"{prefix}block_1.", _BLOCK)
    yield from _layers(middle.get("attention", {}), (*path, "attention"), f"{prefix}attn_1.", _ATTENTION)
    yield from _layers(middle["block_out"], (*path, "block_out"), f"{prefix}block_2.", _BLOCK)


def _layers(tree: Params, path: tuple, prefix: str, layers: Mapping[str, str]) -> Iterator[Entry]:
    for ours, theirs in layers.items():
        if ours in tree:
            yield from _layer(tree[ours], (*path, ours), prefix + theirs)


def _critic(shapes: Params) -> Iterator[Entry]:
    """Convolutions, norms and ReLUs are counted in one list there."""
    yield from _layer(shapes["conv_in"], ("conv_in",), "main.0")
    place = 2
    for i in sorted(shapes["convs"]):
        yield from _layer(shapes["convs"][i], ("convs", i), f"main.{place}")
        yield from _layer(shapes["norms"][i], ("norms", i), f"main.{place + 1}")
        place += 3
    yield from _layer(shapes["conv_out"], ("conv_out",), f"main.{place}")


def _layer(tree: Params, path: tuple, name: str) -> Iterator[Entry]:
    """The weight and the bias of a layer, as far as it has them; every kernel is a convolution's there."""
    for leaf in (*_WEIGHTS, "bias"):
        if leaf in tree:
            yield Entry((*path, leaf), f"{name}.{'bias' if leaf == 'bias' else 'weight'}", 4 if leaf == "kernel" else 1)
