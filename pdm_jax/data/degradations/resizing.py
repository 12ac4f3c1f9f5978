"""Resizing as OpenCV and Matlab do it, whose pixels those of other programs are not.

Each is a linear map along rows and one along columns: matrices (new, old) made of a few taps a row.
"""

from __future__ import annotations

import math

import numpy as np

OPENCV_KINDS = ("linear", "cubic", "area")


def resize_opencv(image: np.ndarray, size: tuple[int, int], kind: str) -> np.ndarray:
    """An image at another size, as OpenCV 4 resizes floats: "linear" and "cubic" do not antialias, "area" does.

    Args:
      image: (H, W, C) float.
      size: (height, width) to come to.
      kind: "linear", "cubic" (a = -0.75) or "area" (means of boxes; where an axis grows, steep linear ramps).

    Returns:
      (height, width, C) float32; "cubic" may overshoot.
    """
    if kind == "area" and any(new > old for new, old in zip(size, image.shape[:2], strict=True)):
        kind = "ramps"
    rows, columns = (_OPENCV[kind](old, new) for old, new in zip(image.shape[:2], size, strict=True))
    return _apply(image, rows, columns)


def resize_matlab(image: np.ndarray, scale: float) -> np.ndarray:
    """An image `scale` times as large (rounded up), as Matlab's imresize does: antialiased bicubic, mirrored borders.

    Args:
      image: (H, W, C) float.

    Returns:
      (ceil(H * scale), ceil(W * scale), C) float32; it may overshoot.
    """
    rows, columns = (_matlab_bicubic(old, scale) for old in image.shape[:2])
    return _apply(image, rows, columns)


def taps(places: np.ndarray, weights: np.ndarray, old: int) -> np.ndarray:
    """The matrix (new, old) whose rows have `weights` (new, n) at `places` (new, n); borders go on beyond the ends."""
    matrix = np.zeros((len(places), old))
    np.add.at(matrix, (np.arange(len(places))[:, None], np.clip(places, 0, old - 1)), weights)
    return matrix


def _apply(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.einsum("ph,hwc,qw->pqc", rows, image, columns, optimize=True).astype(np.float32)


def _linear(old: int, new: int) -> np.ndarray:
    centers = _centers(old, new)
    low = np.floor(centers)
    return _pairs(low, centers - low, old)


def _cubic(old: int, new: int) -> np.ndarray:
    centers = _centers(old, new)[:, None]
    places = np.floor(centers) + np.arange(-1, 3)
    return taps(places.astype(int), _cubic_kernel(centers - places, a=-0.75), old)


def _area(old: int, new: int) -> np.ndarray:
    edges = np.arange(new + 1)[:, None] * (old / new)
    covered = np.clip(np.minimum(edges, old) - np.arange(old), 0, 1)  # how much of each old pixel lies left of an edge
    overlap = np.diff(covered, axis=0)
    return overlap / overlap.sum(axis=1, keepdims=True)


def _ramps(old: int, new: int) -> np.ndarray:
    """What OpenCV makes of "area" where pixels grow: constant, but for the new pixels that lie across two old ones."""
    i = np.arange(new)
    low = np.floor(i * (old / new))
    part = (i + 1) - (low + 1) * (new / old)
    return _pairs(low, np.where(part <= 0, 0, part - np.floor(part)), old)


_OPENCV = {"linear": _linear, "cubic": _cubic, "area": _area, "ramps": _ramps}


def _matlab_bicubic(old: int, scale: float) -> np.ndarray:
    new, widen = math.ceil(old * scale), max(1 / scale, 1)
    centers = ((np.arange(new) + 0.5) / scale - 0.5)[:, None]
    places = np.floor(centers - 2 * widen).astype(int) + np.arange(math.ceil(4 * widen) + 2)
    weights = _cubic_kernel((centers - places) / widen, a=-0.5)
    mirrored = np.minimum(places % (2 * old), -1 - places % (2 * old) + 2 * old)
    return taps(mirrored, weights / weights.sum(axis=1, keepdims=True), old)


def _centers(old: int, new: int) -> np.ndarray:
    """Where the middles of new pixels lie, in old ones whose middles are whole numbers; [new]."""
    return (np.arange(new) + 0.5) * (old / new) - 0.5


def _pairs(low: np.ndarray, part: np.ndarray, old: int) -> np.ndarray:
    """1 - `part` of the old pixel `low` and `part` of the next."""
    return taps(low[:, None].astype(int) + [0, 1], np.stack([1 - part, part], axis=1), old)


def _cubic_kernel(distance: np.ndarray, a: float) -> np.ndarray:
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
