"""Images between the forms they have on disk, in the network and on paper."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.types import Array


def to_float(images: Array) -> Array:
    """uint8 [0, 255] to float32 [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1


def to_uint8(x: Array) -> Array:
    """float [-1, 1] to uint8, clipped, then truncated as the papers' programs do."""
    return ((jnp.clip(x, -1, 1) + 1) * 127.5).astype(jnp.uint8)


def grid(images: np.ndarray, labels: np.ndarray | None = None, *, gap: int = 2, min_side: int = 64) -> np.ndarray:
    """Images (N, H, W, C) uint8 side by side on white, row by row; small ones are enlarged smoothly.

    Args:
      labels: [N]; where they go round 2 to 20 classes, each class gets a column, else the grid is nearly square.
      gap: white pixels between images.
      min_side: images with a shorter side are enlarged to at least this, by a whole factor.

    Returns:
      (height, width, C) uint8.
    """
    factor = math.ceil(min_side / min(images.shape[1:3]))
    n, height, width, channels = images.shape
    height, width = height * factor, width * factor
    if factor > 1:
        large = jax.image.resize(images.astype(np.float32), (n, height, width, channels), "cubic")
        images = np.asarray(jnp.clip(jnp.round(large), 0, 255).astype(jnp.uint8))
    columns = _columns(n, labels)
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet


def _columns(n: int, labels: np.ndarray | None) -> int:
    classes = 0 if labels is None else len(set(labels.tolist()))
    if 2 <= classes <= min(20, n) and np.array_equal(labels, np.resize(labels[:classes], n)):
        return classes
    return math.ceil(math.sqrt(n))
