"""Random weights and images that a test and an official program can both make: nothing of size is stored."""

import zlib
from collections.abc import Mapping

import numpy as np

from pdm_jax.interop import inception as inception_files
from pdm_jax.interop import torchvision_files
from pdm_jax.networks import define
from pdm_jax.networks.inception import InceptionV3
from pdm_jax.networks.lpips import LPIPS
from pdm_jax.networks.vgg import VGG16

_LPIPS = {name: define(lambda rngs, name=name: LPIPS(name, rngs=rngs)).shapes for name in ("alex", "vgg")}
INCEPTION_SHAPES = inception_files.official_shapes(define(lambda rngs: InceptionV3(rngs=rngs)).shapes)
VGG16_SHAPES = torchvision_files.vgg16_shapes(define(lambda rngs: VGG16(use_classifier=True, rngs=rngs)).shapes)
BACKBONE_SHAPES = {
    "alex": torchvision_files.alexnet_shapes(_LPIPS["alex"]["backbone"]),
    "vgg": torchvision_files.vgg16_shapes(_LPIPS["vgg"]["backbone"]),
}
HEAD_SHAPES = {name: torchvision_files.head_shapes(shapes["heads"]) for name, shapes in _LPIPS.items()}


def make_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A float32 tensor for each name and PyTorch shape, scaled so that activations neither die nor explode."""
    return {name: _make(name, tuple(shape)).astype(np.float32) for name, shape in shapes.items()}


def _make(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.startswith("lin"):  # heads of LPIPS are not negative
        return rng.uniform(0, 1, shape)
    if len(shape) > 1:  # (out, in, ...), He's scale
        return rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
    if name.endswith(("bn.weight", "running_var")):
        return rng.uniform(0.5, 1.5, shape)
    return rng.normal(0, 0.1, shape)


def make_images(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth noise with some grain, uint8 (count, height, width, 3)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / 8.0
    phases, angles = rng.uniform(0, 2 * np.pi, (2, count, 1, 1, 3, 4))
    rows, columns = (grid[None, ..., None, None] for grid in (rows, columns))
    waves = np.sin(np.cos(angles) * rows + np.sin(angles) * columns + phases)
    grain = rng.normal(0, 12, (count, height, width, 3))
    return np.clip(127 + 40 * waves.sum(-1) + grain, 0, 255).astype(np.uint8)
