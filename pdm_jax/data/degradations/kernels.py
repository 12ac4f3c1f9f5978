"""Kernels of blur, each (size, size) float64."""

from __future__ import annotations

import numpy as np

from pdm_jax.data.degradations.resizing import taps


def gaussian(size: int, sigma: float) -> np.ndarray:
    """A round Gaussian of `sigma` pixels around the middle, which sums to 1; negligible weights are zero."""
    squares = _offsets(size) ** 2
    kernel = _exponential(-(squares[:, None] + squares) / (2 * sigma**2))
    kernel[kernel < np.finfo(float).eps * kernel.max()] = 0
    return kernel / kernel.sum()


def anisotropic(size: int, angle: float, first: float, second: float) -> np.ndarray:
    """A Gaussian stretched along an axis, which sums to 1.

    Args:
      angle: of the first axis against the rows, in radians.
      first: variance along this axis in square pixels, above 0.
      second: variance across it.
    """
    x, y = _offsets(size), _offsets(size)[:, None]
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.sin(angle) * x - np.cos(angle) * y
    kernel = _exponential(-(along**2 / first + across**2 / second) / 2)
    return kernel / kernel.sum()


def shifted(kernel: np.ndarray, factor: int) -> np.ndarray:
    """A kernel moved up and left by (factor - 1) / 2 pixels, linearly interpolated; its sum may change.

    Taking every factor-th pixel from the first on then samples the middles of blocks, not their corners.
    """
    size = len(kernel)
    places = np.clip(np.arange(size) + (factor - 1) / 2, 0, size - 1)
    low = np.floor(places).astype(int)
    move = taps(low[:, None] + [0, 1], np.stack([low + 1 - places, places - low], axis=1), size)
    return move @ kernel @ move.T


def _offsets(size: int) -> np.ndarray:
    """Places of a line's pixels from its middle, [size]."""
    return np.arange(size) - (size - 1) / 2


def _exponential(exponents: np.ndarray) -> np.ndarray:
    """Up to a factor: the largest is 1, so that narrow kernels of even size, without a middle, are not all zero."""
    return np.exp(exponents - exponents.max())
