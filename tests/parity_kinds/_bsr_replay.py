"""LDM's degradation as its program draws it: from Python's and NumPy's global generators, in its own order.

With equal seeds the program's images come out, but for the last bits of OpenCV's arithmetic: those can turn a pixel,
and JPEG then carries that on to its neighbours.
"""

from __future__ import annotations

import random

import numpy as np

from pdm_jax.data.degradations import kernels, operators
from pdm_jax.data.degradations.bsr import BsrSettings
from pdm_jax.data.degradations.resizing import OPENCV_KINDS


def replay(image: np.ndarray, factor: int, settings: BsrSettings, seed: int) -> np.ndarray:
    """What the program makes of an image (H, W, 3) uint8 after both generators were seeded; uint8."""
    height, width, _ = image.shape
    image = image[: width - width % factor, : height - height % factor]  # the program swaps height and width here
    return _Replay(settings, seed)(image, factor)


class _Replay:
    def __init__(self, settings: BsrSettings, seed: int):
        self._settings = settings
        self._python, self._numpy = random.Random(seed), np.random.RandomState(seed)

    def __call__(self, image: np.ndarray, factor: int) -> np.ndarray:
        x = operators.to_float(image)
        if factor == 4 and self._python.random() < self._settings.halve_chance:
            halve = self._resize if self._numpy.rand() < 0.5 else lambda x, size: operators.halve(x)
            x, factor = halve(x, _smaller(x.shape, 2)), 2
        order = self._python.sample(range(7), 7)  # two blurs, shrinking, the final size, noise, JPEG, nothing
        first, second = sorted((order.index(2), order.index(3)))
        order[first], order[second] = 2, 3
        for i in order:
            if i < self._settings.num_blurs:
                x = operators.blur(x, self._kernel(factor))
            elif i == 2:
                final, x = _smaller(x.shape, factor), self._shrink(x, factor)
            elif i == 3:
                x = self._resize(x, final)
            elif i == 4:
                x = operators.add(x, self._noise(x.shape))
            elif i == 5 and self._python.random() < self._settings.jpeg_chance:
                x = self._jpeg(x)
        return operators.to_uint8(self._jpeg(x))

    def _kernel(self, factor: int) -> np.ndarray:
        settings = self._settings
        if self._python.random() < settings.anisotropic_chance:
            variances = [settings.blur_strength * (4 + factor) * self._python.random() for _ in range(2)]
            size = self._choice(settings.anisotropic_sizes)
            return kernels.anisotropic(size, self._python.random() * np.pi, *variances)
        size = self._choice(settings.round_sizes)
        return kernels.gaussian(size, settings.blur_strength * (2 + 0.2 * factor) * self._python.random())

    def _shrink(self, x: np.ndarray, factor: int) -> np.ndarray:
        if self._python.random() < self._settings.resize_chance:
            return self._resize(x, _smaller(x.shape, self._python.uniform(1, 2 * factor)))
        kernel = kernels.shifted(kernels.gaussian(25, self._python.uniform(0.1, 0.6 * factor)), factor)
        return operators.blur_and_stride(x, kernel / kernel.sum(), factor)

    def _noise(self, shape: tuple[int, int, int]) -> np.ndarray:
        from scipy.linalg import orth

        level = self._python.randint(*self._settings.noise_levels) / 255
        kind = self._numpy.rand()
        if kind > 0.6 or kind < 0.4:
            return self._numpy.normal(0, level, shape if kind > 0.6 else (*shape[:2], 1))
        diagonal = np.diag(self._numpy.rand(3))
        rotation = orth(self._numpy.rand(3, 3))
        strongest = self._settings.noise_levels[1] / 255
        covariance = np.abs(strongest**2 * rotation.T @ diagonal @ rotation)
        return self._numpy.multivariate_normal([0, 0, 0], covariance, shape[:2])

    def _jpeg(self, x: np.ndarray) -> np.ndarray:
        return operators.jpeg(x, self._python.randint(*self._settings.jpeg_qualities))

    def _resize(self, x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return operators.resize(x, size, self._choice(OPENCV_KINDS))

    def _choice(self, values: tuple) -> object:
        return values[self._python.randint(0, len(values) - 1)]


def _smaller(shape: tuple[int, int, int], ratio: float) -> tuple[int, int]:
    return int(1 / ratio * shape[0]), int(1 / ratio * shape[1])
