"""Resizing as the programs of the field do it: each kind is a linear map along rows and one along columns.

The maps are small matrices made in NumPy, so that resizing is two matrix products and the kinds differ in their
weights alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.types import Array

_BICUBIC_A = -0.5  # PIL's; OpenCV and PyTorch have -0.75


def resize(images: Array, size: tuple[int, int], kind: str) -> Array:
    """Images at another size.

    Args:
      images: (B, H, W, C), any type, in [0, 255].
      size: (height, width) to come to.
      kind: "clean" (clean-fid 0.1.35: PIL's antialiased bicubic on float channels, clipped to [0, 255], not
        rounded), "pytorch" (pytorch-fid 0.3.0: bilinear, half-pixel centres, no antialiasing) or "tensorflow"
        (torch-fidelity 0.4.0 and ADM: TensorFlow 1's bilinear without half-pixel centres).

    Returns:
      (B, height, width, C) float32, as exact as float32 is on any device.

    Raises:
      UserError: there is no such kind.
    """
    _, height, width, _ = images.shape
    rows = jnp.asarray(matrix(kind, height, size[0]), jnp.float32)
    columns = jnp.asarray(matrix(kind, width, size[1]), jnp.float32)
    x = images.astype(jnp.float32)
    x = jnp.einsum("ph,bhwc->bpwc", rows, x, precision=jax.lax.Precision.HIGHEST)
    x = jnp.einsum("qw,bpwc->bpqc", columns, x, precision=jax.lax.Precision.HIGHEST)
    return jnp.clip(x, 0, 255) if kind == "clean" else x


def matrix(kind: str, old: int, new: int) -> np.ndarray:
    """The weights (new, old), float64, by which `old` pixels of a line make `new` ones; rows sum to 1.

    Raises:
      UserError: there is no such kind.
    """
    places = np.arange(new) * (old / new)  # where new pixels begin, in old pixels
    half = 0.5 * old / new
    if kind == "clean":
        return _antialiased_bicubic(places + half, max(old / new, 1), old)
    if kind == "pytorch":
        return _bilinear(np.maximum(places + half - 0.5, 0), old)
    if kind == "tensorflow":
        return _bilinear(places, old)
    raise UserError(f"images cannot be resized by {kind!r}; choose clean, pytorch or tensorflow")


def _bilinear(places: np.ndarray, old: int) -> np.ndarray:
    """Weights of the two pixels around each place; the last pixel goes on beyond the border."""
    low = np.floor(places).astype(int)
    weights = np.zeros((len(places), old))
    rows = np.arange(len(places))
    np.add.at(weights, (rows, low), 1 - (places - low))
    np.add.at(weights, (rows, np.minimum(low + 1, old - 1)), places - low)
    return weights


def _antialiased_bicubic(centres: np.ndarray, scale: float, old: int) -> np.ndarray:
    """The cubic kernel around each centre, widened by `scale`; what lies beyond the border is left out."""
    x = np.abs(np.arange(old) + 0.5 - centres[:, None]) / scale
    a = _BICUBIC_A
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)
