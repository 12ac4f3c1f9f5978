"""Images between the forms they have on disk, in the network and on paper."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from pdm_jax.types import Array


def to_float(images: Array) -> Array:
    """uint8 [0, 255] to float32 [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1


def to_uint8(x: Array) -> Array:
    """float [-1, 1] to uint8, clipped, then truncated as the papers' programs do."""
    return ((jnp.clip(x, -1, 1) + 1) * 127.5).astype(jnp.uint8)


def grid(images: np.ndarray, columns: int | None = None, *, gap: int = 2, min_side: int = 64) -> np.ndarray:
    """Images (N, H, W, C) uint8 side by side on white, row by row; small ones are enlarged by whole factors.

    Args:
      columns: images a row; None makes the grid nearly square.
      gap: white pixels between images.
      min_side: images with a shorter side are enlarged to at least this.

    Returns:
      (height, width, C) uint8.
    """
    factor = math.ceil(min_side / min(images.shape[1:3]))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    n, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet
