"""Random weights and images that a test and an official program can both make: nothing of size is stored.

Everything comes from NumPy's RandomState, the same in all versions.
"""

import zlib
from collections.abc import Mapping

import numpy as np


def make_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A float32 tensor for each name and PyTorch shape, scaled so that activations neither die nor explode."""
    return {name: _make(name, tuple(shape)).astype(np.float32) for name, shape in shapes.items()}


def _make(name: str, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.startswith("lin"):  # heads of LPIPS are not negative
        return random.uniform(0, 1, shape)
    if len(shape) > 1:  # (out, in, ...), He's scale
        return random.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))
    if name.endswith(("bn.weight", "running_var")):
        return random.uniform(0.5, 1.5, shape)
    return 0.1 * random.randn(*shape)


def make_images(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth waves with some grain, uint8 (count, height, width, 3)."""
    random = np.random.RandomState(seed)
    rows, columns = (grid[None, ..., None, None] / 8.0 for grid in np.mgrid[:height, :width])
    phases, angles = random.uniform(0, 2 * np.pi, (2, count, 1, 1, 3, 4))
    waves = np.sin(np.cos(angles) * rows + np.sin(angles) * columns + phases)
    grain = 12 * random.randn(count, height, width, 3)
    return np.clip(127 + 40 * waves.sum(-1) + grain, 0, 255).astype(np.uint8)
