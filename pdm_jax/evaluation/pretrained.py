"""The field's feature networks from local weight files, each with the preprocessing of the program it comes from."""

from __future__ import annotations

import os
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.evaluation.networks import FeatureNetwork, PerceptualNetwork
from pdm_jax.interop import inception as inception_files
from pdm_jax.interop import torchvision_files
from pdm_jax.interop.state_dicts import Tensors, read_tensors
from pdm_jax.networks import inception, vgg
from pdm_jax.networks.functional import Definition, define
from pdm_jax.networks.lpips import BACKBONES, LEAST_SIZES, LPIPS
from pdm_jax.ops import resizing
from pdm_jax.ops.images import to_float
from pdm_jax.types import Array, Params

RESIZES = ("clean", "tensorflow", "pytorch")
_IMAGENET_MEAN = 255 * np.array([[[[0.485, 0.456, 0.406]]]], np.float32)
_IMAGENET_STD = 255 * np.array([[[[0.229, 0.224, 0.225]]]], np.float32)


def open_inception(path: str | os.PathLike, resize: str) -> FeatureNetwork:
    """InceptionV3 of FID, with outputs pool, spatial and logits.

    Args:
      path: the weights of pytorch-fid (`pt_inception-2015-12-05-6726825d.pth`) or torch-fidelity
        (`weights-inception-2015-12-05-6726825d.pth`), or a safetensors file with the same names.
      resize: "clean" (clean-fid), "tensorflow" (torch-fidelity, ADM) or "pytorch" (pytorch-fid); each also
        normalises as that program does.

    Raises:
      UserError: there is no such resize; the file does not exist, is damaged or is of another network.
    """
    if resize not in RESIZES:
        raise UserError(f"Inception cannot resize by {resize!r}; choose one of {', '.join(RESIZES)}")
    definition = define(lambda rngs: inception.InceptionV3(rngs=rngs))
    params = _load(path, "FID's InceptionV3", inception_files.load, definition.shapes)

    def apply(params: Params, images: Array) -> dict[str, Array]:
        return inception_features(definition.bind(params), images, resize)

    return FeatureNetwork("inception", params, apply, inception.OUTPUTS, resize)


def inception_features(network: inception.InceptionV3, images: Array, resize: str) -> dict[str, Array]:
    """What the network makes of uint8 images (B, H, W, 1 or 3), resized and normalised as `open_inception` says."""
    x = resizing.resize(images, (inception.SIZE, inception.SIZE), resize)
    return network(_to_rgb(2 * (x / 255) - 1 if resize == "pytorch" else (x - 128) / 128))


def open_vgg16(path: str | os.PathLike) -> FeatureNetwork:
    """VGG16's second hidden layer, by which torch-fidelity measures precision and recall, with its preprocessing.

    Args:
      path: torchvision's state dict with the classifier, or a safetensors file with the same names.

    Raises:
      UserError: the file does not exist, is damaged or is of another network.
    """
    definition = define(lambda rngs: vgg.VGG16(use_classifier=True, rngs=rngs))
    params = _load(path, "torchvision's VGG16", torchvision_files.load_vgg16, definition.shapes)

    def apply(params: Params, images: Array) -> dict[str, Array]:
        x = _to_rgb(resizing.resize(images, (vgg.SIZE, vgg.SIZE), "tensorflow"))
        return {"fc2": definition.bind(params)((x - _IMAGENET_MEAN) / _IMAGENET_STD)}

    return FeatureNetwork("vgg16", params, apply, {"fc2": vgg.CLASSIFIER}, "tensorflow")


def open_lpips(
    backbone: str, backbone_path: str | os.PathLike, heads_path: str | os.PathLike, *, dtype=jnp.float32
) -> PerceptualNetwork:
    """LPIPS v0.1 at the images' own size.

    Args:
      backbone: "alex" or "vgg".
      backbone_path: torchvision's state dict of AlexNet or VGG16.
      heads_path: the lpips package's `weights/v0.1/alex.pth` or `vgg.pth`.
      dtype: of the backbone.

    Raises:
      UserError: there is no such backbone; a file does not exist, is damaged or is of another network.
    """
    definition, params = load_lpips(backbone, backbone_path, heads_path, dtype=dtype)

    def apply(params: Params, a: Array, b: Array) -> Array:
        return definition.bind(params)(_to_rgb(to_float(a)), _to_rgb(to_float(b)))

    return PerceptualNetwork(f"lpips-{backbone}", params, apply, LEAST_SIZES[backbone])


def load_lpips(
    backbone: str, backbone_path: str | os.PathLike, heads_path: str | os.PathLike, *, dtype=jnp.float32
) -> tuple[Definition, Params]:
    """The module of `open_lpips`, a differentiable function of float images in [-1, 1], and its parameters."""
    if backbone not in BACKBONES:
        raise UserError(f"LPIPS has no backbone {backbone!r}; choose one of {', '.join(BACKBONES)}")
    definition = define(lambda rngs: LPIPS(backbone, dtype=dtype, rngs=rngs))
    load = {"alex": torchvision_files.load_alexnet, "vgg": torchvision_files.load_vgg16}[backbone]
    name = {"alex": "torchvision's AlexNet", "vgg": "torchvision's VGG16"}[backbone]
    shapes, heads = definition.shapes, f"LPIPS's heads for {backbone}"
    return definition, {
        "backbone": _load(backbone_path, name, load, shapes["backbone"]),
        "heads": _load(heads_path, heads, torchvision_files.load_heads, shapes["heads"]),
    }


def _load(path: str | os.PathLike, name: str, load: Callable[[Tensors, Params], Params], shapes: Params) -> Params:
    """Parameters out of a file; an error names the file and what it should hold."""
    tensors = read_tensors(path)
    try:
        return load(tensors, shapes)
    except UserError as error:
        raise UserError(f"{path} is no file of {name}: {error}") from None


def _to_rgb(x: Array) -> Array:
    """(B, H, W, 1 or 3) to (B, H, W, 3)."""
    return jnp.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x
