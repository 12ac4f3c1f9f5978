"""The degradation of BSRGAN (arXiv 2103.14006), by which LDM trains super-resolution of images in the wild.

Blur, two kinds of shrinking, noise and JPEG come in random order and with random strengths. An image's degradation
is drawn first, as a list of steps that wait for the pixels only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import numpy as np

from pdm_jax.data.degradations import kernels, operators
from pdm_jax.data.degradations.resizing import OPENCV_KINDS

Step = Callable[[np.ndarray], np.ndarray]  # an operator that waits for the image


@dataclasses.dataclass(frozen=True)
class BsrSettings:
    """How much is done to images; f is the factor that is left after halving. Ranges have both their ends."""

    num_blurs: int  # each anisotropic or round
    blur_strength: float  # variances below it times (4 + f) if anisotropic, else sigma below it times (2 + 0.2 f)
    anisotropic_sizes: tuple[int, ...]  # of kernels
    round_sizes: tuple[int, ...]
    resize_chance: float  # of OpenCV's resizing instead of blur and striding
    noise_levels: tuple[int, int]  # of 255; the higher one is that of noise which is correlated between channels
    jpeg_qualities: tuple[int, int]
    anisotropic_chance: float = 0.5
    halve_chance: float = 0.25  # that a factor of 4 begins with halving
    jpeg_chance: float = 0.9  # of a JPEG before the last, which always is


# LDM's released model is trained with the first; the second is BSRGAN's own.
LIGHT = BsrSettings(
    num_blurs=1,
    blur_strength=0.25,
    anisotropic_sizes=tuple(range(5, 15)),
    round_sizes=(5, 6, 7),
    resize_chance=0.8,
    noise_levels=(1, 2),
    jpeg_qualities=(80, 95),
)
FULL = BsrSettings(
    num_blurs=2,
    blur_strength=1.0,
    anisotropic_sizes=tuple(range(7, 26, 2)),
    round_sizes=tuple(range(7, 26, 2)),
    resize_chance=0.75,
    noise_levels=(2, 25),
    jpeg_qualities=(30, 95),
)


def draw_steps(shape: tuple[int, int, int], factor: int, settings: BsrSettings, rng: np.random.Generator) -> list[Step]:
    """What will be done to an image of `shape` (H, W, C), which comes to (H / factor, W / factor, C)."""
    height, width, channels = shape
    final = (height // factor, width // factor)
    size, steps = (height, width), []
    if factor == 4 and rng.random() < settings.halve_chance:
        size, factor = (height // 2, width // 2), 2
        steps.append(operators.halve if rng.random() < 0.5 else _resize(size, rng))
    for name in _order(settings.num_blurs, rng):
        if name == "blur":
            steps.append(partial(operators.blur, kernel=_draw_kernel(factor, settings, rng)))
        elif name == "shrink":
            size, step = _draw_shrinking(size, factor, settings, rng)
            steps.append(step)
        elif name == "finish":
            size = final
            steps.append(_resize(size, rng))
        elif name == "noise":
            steps.append(partial(operators.add, noise=_draw_noise((*size, channels), settings, rng)))
        elif rng.random() < settings.jpeg_chance:
            steps.append(_jpeg(settings, rng))
    return [*steps, _jpeg(settings, rng)]


def _order(num_blurs: int, rng: np.random.Generator) -> list[str]:
    """The operators in random order, but for shrinking before coming to the final size."""
    names = [str(name) for name in rng.permutation(["blur"] * num_blurs + ["shrink", "finish", "noise", "jpeg"])]
    first, second = sorted((names.index("shrink"), names.index("finish")))
    names[first], names[second] = "shrink", "finish"
    return names


def _draw_kernel(factor: int, settings: BsrSettings, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < settings.anisotropic_chance:
        first, second = settings.blur_strength * (4 + factor) * (1 - rng.random(2))  # above zero
        size = int(rng.choice(settings.anisotropic_sizes))
        return kernels.anisotropic(size, rng.uniform(0, np.pi), first, second)
    sigma = settings.blur_strength * (2 + 0.2 * factor) * (1 - rng.random())
    return kernels.gaussian(int(rng.choice(settings.round_sizes)), sigma)


def _draw_shrinking(
    size: tuple[int, int], factor: int, settings: BsrSettings, rng: np.random.Generator
) -> tuple[tuple[int, int], Step]:
    """The size (height, width) that is come to, and how."""
    if rng.random() < settings.resize_chance:
        ratio = rng.uniform(1, 2 * factor)
        smaller = tuple(max(1, int(side / ratio)) for side in size)
        return smaller, _resize(smaller, rng)
    kernel = kernels.shifted(kernels.gaussian(25, rng.uniform(0.1, 0.6 * factor)), factor)
    step = partial(operators.blur_and_stride, kernel=kernel / kernel.sum(), stride=factor)
    return tuple(-(-side // factor) for side in size), step


def _draw_noise(shape: tuple[int, int, int], settings: BsrSettings, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise: 0.4 of each channel's own, 0.4 grey, 0.2 correlated between channels."""
    height, width, channels = shape
    level = rng.integers(*settings.noise_levels, endpoint=True) / 255
    kind = rng.random()
    if kind > 0.6:
        return rng.normal(0, level, shape)
    if kind < 0.4:
        return rng.normal(0, level, (height, width, 1))
    rotation, _, _ = np.linalg.svd(rng.random((channels, channels)))
    covariance = np.abs(rotation.T @ np.diag(rng.random(channels)) @ rotation) * (settings.noise_levels[1] / 255) ** 2
    # Absolute values need not be a covariance: as in the program, one that has their singular values is taken.
    return rng.multivariate_normal(np.zeros(channels), covariance, (height, width), check_valid="ignore")


def _resize(size: tuple[int, int], rng: np.random.Generator) -> Step:
    return partial(operators.resize, size=size, kind=str(rng.choice(OPENCV_KINDS)))


def _jpeg(settings: BsrSettings, rng: np.random.Generator) -> Step:
    return partial(operators.jpeg, quality=int(rng.integers(*settings.jpeg_qualities, endpoint=True)))
