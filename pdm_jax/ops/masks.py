"""Which pixels of an image are known, and how gradually."""

from __future__ import annotations

import numpy as np


def known_weights(hole: np.ndarray, feather: int = 0) -> np.ndarray:
    """How far each pixel is kept: 0 where there is a hole, 1 where the image is known exactly.

    Args:
      hole: (H, W) bool, true where pixels are to be made.
      feather: over how many known pixels beside a hole the weight rises, in even steps; distances are those of a
        chess king. 0 is a hard edge.

    Returns:
      (H, W) float32 in [0, 1]; with a feather of 3, pixels next to a hole have 1/4, then 2/4, 3/4 and 1.
    """
    weights, grown = np.where(hole, 0, 1).astype(np.float32), hole
    for distance in range(1, feather + 1):
        ring = _grown(grown) & ~grown
        weights[ring] = distance / (feather + 1)
        grown = grown | ring
    return weights


def _grown(region: np.ndarray) -> np.ndarray:
    """A region and all eight neighbours of each of its pixels."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(region, 1), (3, 3)).any((2, 3))
