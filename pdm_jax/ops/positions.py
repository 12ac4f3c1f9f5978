"""Where the patches of a canvas lie, in patch units of the padded grid that a network was trained on (Patch-DM).

Cut at half-patch offsets, n x m patches' worth of pixels are (n + 1) x (m + 1) patches. Each has a row, a column, and
1 where this position is known; a patch without a position is all zeros.
"""

from __future__ import annotations

import numpy as np


def grid(rows: int, columns: int) -> np.ndarray:
    """Positions of the trained canvas of rows x columns patches: rows 0 to `rows`, columns 0 to `columns`.

    Returns:
      (rows + 1, columns + 1, 3) float32.
    """
    return stretched(rows, columns, (rows, columns))


def interpolated(rows: int, columns: int, factor: int) -> np.ndarray:
    """The trained grid with `factor` patches for each one along both axes, between the trained positions (section 5.4).

    Returns:
      (factor * rows + 1, factor * columns + 1, 3) float32: k / factor.
    """
    return stretched(rows, columns, (factor * rows, factor * columns))


def extended(rows: int, columns: int, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """The trained grid in its old place among added patches, which have no position (section 5.4).

    Returns:
      (top + rows + bottom + 1, left + columns + right + 1, 3) float32.
    """
    return surrounded(grid(rows, columns), top, bottom, left, right)


def stretched(rows: int, columns: int, size: tuple[int, int]) -> np.ndarray:
    """The trained grid of rows x columns patches evenly over a canvas of `size` (rows, columns) patches.

    Returns:
      (size[0] + 1, size[1] + 1, 3) float32.
    """
    row = np.linspace(0, rows, size[0] + 1)
    column = np.linspace(0, columns, size[1] + 1)
    known = np.ones((len(row), len(column)))
    return np.stack([*np.meshgrid(row, column, indexing="ij"), known], axis=-1).astype(np.float32)


def surrounded(positions: np.ndarray, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """Positions (gh, gw, 3) with so many patches without a position around them."""
    return np.pad(positions, ((top, bottom), (left, right), (0, 0)))
