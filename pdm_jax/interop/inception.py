"""Weights of FID's InceptionV3 from the files of pytorch-fid and torch-fidelity, which have the same names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from pdm_jax.interop.matching import Shape
from pdm_jax.interop.state_dicts import Tensors, conv_kernel, conv_shape, select
from pdm_jax.networks.inception import BLOCKS, Conv
from pdm_jax.types import Params

_NORM_EPS = 1e-3
_SURPLUS = r".*\.num_batches_tracked|AuxLogits\..*"  # counters of training, and a classifier that only trains
_CLASSES = "fc.weight"


def load(tensors: Tensors, shapes: Params) -> Params:
    """Parameters from the official tensors; batch norms are folded into the convolutions before them.

    Args:
      tensors: by name, in PyTorch's layout.
      shapes: of an `InceptionV3`'s parameters.

    Returns:
      A nested dict of float32 numpy arrays like `shapes`.

    Raises:
      UserError: tensors are missing, surplus or misshapen; lists them.
    """
    found = select(tensors, official_shapes(shapes), _SURPLUS)
    stem = {name: _fold(found, name) for name in shapes["stem"]}
    blocks = {name: _load_block(found, name, block["convs"]) for name, block in shapes["blocks"].items()}
    return {"stem": stem, "blocks": blocks, "classes": np.ascontiguousarray(found[_CLASSES].T)}


def official_shapes(shapes: Params) -> dict[str, Shape]:
    """Names and shapes of the official tensors that are wanted."""
    num_features, num_classes = shapes["classes"].shape
    found = {_CLASSES: (num_classes, num_features), "fc.bias": (num_classes,)}  # no output has the bias
    for name, kernel in _kernels(shapes):
        found[f"{name}.conv.weight"] = conv_shape(kernel)
        found |= {f"{name}.bn.{part}": kernel[-1:] for part in ("weight", "bias", "running_mean", "running_var")}
    return found


def _kernels(shapes: Params) -> Iterator[tuple[str, Shape]]:
    """Name and kernel shape (HWIO) of each convolution of the files, the joined ones one by one."""
    for name, conv in shapes["stem"].items():
        yield name, conv["kernel"].shape
    for block, params in shapes["blocks"].items():
        for conv in _joined(block):
            yield f"{block}.{conv.name}", (*params["joined"]["kernel"].shape[:3], conv.features)
        for name, conv in params["convs"].items():
            yield f"{block}.{name}", conv["kernel"].shape


def _load_block(found: Tensors, block: str, alone: Iterable[str]) -> Params:
    joined = [_fold(found, f"{block}.{conv.name}") for conv in _joined(block)]
    return {
        "joined": {part: np.concatenate([conv[part] for conv in joined], axis=-1) for part in ("kernel", "bias")},
        "convs": {name: _fold(found, f"{block}.{name}") for name in alone},
    }


def _joined(block: str) -> list[Conv]:
    return [branch.convs[0] for branch in BLOCKS[block] if branch.is_joined]


def _fold(found: Tensors, name: str) -> Mapping[str, np.ndarray]:
    """A convolution without bias and its batch norm as one convolution with a bias; computed in float64."""
    gain, shift, mean, variance = (
        found[f"{name}.bn.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    multiplier = gain / np.sqrt(variance + _NORM_EPS)
    kernel = conv_kernel(found[f"{name}.conv.weight"]) * multiplier
    return {"kernel": kernel.astype(np.float32), "bias": (shift - mean * multiplier).astype(np.float32)}
