"""Canvases of latent diffusion for pictures of any size, which go on as in a mirror to the next size that divides."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from pdm_jax.config import Config
from pdm_jax.pipelines.layouts import Layout
from pdm_jax.systems import parts_of
from pdm_jax.systems.latent import make_space


@dataclasses.dataclass(frozen=True)
class Mirrored(Layout):
    """A canvas with a picture in its upper left corner and the picture's mirror image around it."""

    def place(self, image: np.ndarray) -> np.ndarray:
        """An image of the window (h, w, C) and its mirror image, (H, W, C)."""
        return mirror(image, self.size)


def mirrored(config: Config, size: tuple[int, int], source: str) -> tuple[Config, Mirrored]:
    """The config of a convolutional model and the canvas for pictures of `size` (height, width), in pixels.

    Args:
      source: of the pictures: also models of encoded data take them.
    """
    multiple = side_multiple(config)
    canvas = tuple(-(-side // multiple) * multiple for side in size)
    data = dataclasses.replace(config.data, image_size=canvas, source=source)
    window = tuple(slice(0, side) for side in size)
    return dataclasses.replace(config, data=data), Mirrored(canvas, None, window, lambda noise, keys: noise)


def side_multiple(config: Config) -> int:
    """What the sides of images have to divide by: the first stage's factor, patches and the levels of the U-Nets."""
    models = [part.config.model for part in parts_of(config)]
    grids = (model.patch_size * 2 ** (len(model.network["channel_mult"]) - 1) for model in models)
    return make_space(config).factor * math.lcm(*grids)


def mirror(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (h, w, C) with its reflection below and beside it, (*size, C)."""
    padding = [(0, whole - own) for whole, own in zip(size, image.shape, strict=False)]
    return np.pad(image, [*padding, (0, 0)], mode="reflect")
