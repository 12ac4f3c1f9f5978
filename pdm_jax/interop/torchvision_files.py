"""Weights of torchvision's VGG16 and AlexNet, and of the heads of the lpips package."""

from __future__ import annotations

import numpy as np

from pdm_jax.interop.matching import Shape
from pdm_jax.interop.state_dicts import Tensors, conv_kernel, conv_shape, select
from pdm_jax.networks.vgg import STAGES
from pdm_jax.types import Params

# The place of each convolution in torchvision's `features`, where ReLUs and pools are counted too.
ALEXNET_PLACES = (0, 3, 6, 8, 10)
VGG16_PLACES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_CLASSIFIER = r"classifier\..*"
_LAST_LAYER = r"classifier\.6\..*"
_HIDDEN = {"fc1": "classifier.0", "fc2": "classifier.3"}


def load_vgg16(tensors: Tensors, shapes: Params) -> Params:
    """Parameters of a `VGG16`, with the hidden layers of the classifier where `shapes` has them.

    Args:
      tensors: torchvision's state dict; its last layer may be missing.
      shapes: of the network's parameters.

    Returns:
      A nested dict of float32 numpy arrays like `shapes`.

    Raises:
      UserError: tensors are missing, surplus or misshapen; lists them.
    """
    found = select(tensors, vgg16_shapes(shapes), _LAST_LAYER if "fc1" in shapes else _CLASSIFIER)
    params = {"stages": {i: _load_convs(found, places) for i, places in enumerate(VGG16_PLACES)}}
    for ours, theirs in _HIDDEN.items():
        if ours in shapes:
            params[ours] = {"kernel": _dense_kernel(found[f"{theirs}.weight"]), "bias": found[f"{theirs}.bias"]}
    return params


def load_alexnet(tensors: Tensors, shapes: Params) -> Params:
    """Parameters of an `AlexNet` from torchvision's state dict; returns and raises as `load_vgg16`."""
    found = select(tensors, alexnet_shapes(shapes), _CLASSIFIER)
    return {"convs": _load_convs(found, ALEXNET_PLACES)}


def load_heads(tensors: Tensors, shapes: Params) -> Params:
    """The weights by which LPIPS compares channels, from the lpips package's file of a backbone.

    Args:
      tensors: `lin0.model.1.weight` and on, each (1, C, 1, 1).
      shapes: of the heads of an `LPIPS`.

    Returns:
      Vectors [C] by depth.

    Raises:
      UserError: tensors are missing, surplus or misshapen; lists them.
    """
    found = select(tensors, head_shapes(shapes), "")
    return {i: found[_head(i)].reshape(-1) for i in shapes}


def vgg16_shapes(shapes: Params) -> dict[str, Shape]:
    """Names and shapes of the tensors that `load_vgg16` wants."""
    found = {}
    for stage, places in enumerate(VGG16_PLACES):
        found |= _conv_shapes(shapes["stages"][stage], places)
    for ours, theirs in _HIDDEN.items():
        if ours in shapes:
            found[f"{theirs}.weight"] = shapes[ours]["kernel"].shape[::-1]
            found[f"{theirs}.bias"] = shapes[ours]["bias"].shape
    return found


def alexnet_shapes(shapes: Params) -> dict[str, Shape]:
    """Names and shapes of the tensors that `load_alexnet` wants."""
    return _conv_shapes(shapes["convs"], ALEXNET_PLACES)


def head_shapes(shapes: Params) -> dict[str, Shape]:
    """Names and shapes of the tensors that `load_heads` wants."""
    return {_head(i): (1, head.shape[0], 1, 1) for i, head in shapes.items()}


def _head(depth: int) -> str:
    return f"lin{depth}.model.1.weight"


def _conv_shapes(convs: Params, places: tuple[int, ...]) -> dict[str, Shape]:
    shapes = {}
    for i, place in enumerate(places):
        shapes[f"features.{place}.weight"] = conv_shape(convs[i]["kernel"].shape)
        shapes[f"features.{place}.bias"] = convs[i]["bias"].shape
    return shapes


def _load_convs(found: Tensors, places: tuple[int, ...]) -> Params:
    return {
        i: {"kernel": conv_kernel(found[f"features.{place}.weight"]), "bias": found[f"features.{place}.bias"]}
        for i, place in enumerate(places)
    }


def _dense_kernel(weight: np.ndarray) -> np.ndarray:
    """(out, in) to (in, out); what reads the grid of features reads it channels last."""
    channels = STAGES[-1][-1]
    if weight.shape[1] == 7 * 7 * channels:
        weight = weight.reshape(-1, channels, 7, 7).transpose(0, 2, 3, 1).reshape(weight.shape)
    return np.ascontiguousarray(weight.T)
