"""How far an image is from the one it should be: PSNR and SSIM, of colours or of luma."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.types import Array

WINDOW = 11  # side of SSIM's window, in pixels
_SIGMA = 1.5
_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # of R, G, B; black is at 16, white at 235


def psnr(images: Array, references: Array, *, luma: bool = False) -> Array:
    """Peak signal-to-noise ratios 10 log10(255² / mean squared error), in dB, one an image.

    The mean squared error is over pixels and colours. Identical images have an infinite ratio, and so has any mean
    with one of them, as in scikit-image and torchmetrics.

    Args:
      images: (B, H, W, C) uint8, on the device or in NumPy.
      references: the same shape.
      luma: compare BT.601 luma, as super-resolution does: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255 for
        R, G, B in [0, 255], not rounded, and 255 still as the peak. Borders that a paper shaves off are the caller's.

    Returns:
      (B,) float32.

    Raises:
      UserError: not two uint8 batches of one shape, or luma of images that have not 3 channels.
    """
    _check(images, references, luma)
    return _psnr(images, references, luma)


def ssim(images: Array, references: Array, *, luma: bool = False) -> Array:
    """Structural similarities in [-1, 1], one an image: the mean over all places of an 11 x 11 window, and colours.

    Wang et al. 2004 (Image quality assessment: from error visibility to structural similarity), section III: Gaussian
    window of sigma 1.5, population covariances, K1 = 0.01, K2 = 0.03, range 255. Equal to scikit-image's
    `structural_similarity` with these settings and to torchmetrics' default. Arguments as in `psnr`.

    Returns:
      (B,) float32.

    Raises:
      UserError: as in `psnr`, or images smaller than the window.
    """
    _check(images, references, luma)
    if min(images.shape[1:3]) < WINDOW:
        height, width = images.shape[1:3]
        raise UserError(
            f"SSIM has a window of {WINDOW} x {WINDOW} pixels, got images of {height} x {width}; use larger"
        )
    return _ssim(images, references, luma)


def _check(images: Array, references: Array, luma: bool) -> None:
    for batch in (images, references):
        if batch.ndim != 4 or batch.dtype != np.uint8:
            raise UserError(f"got {batch.dtype} {batch.shape}, expected uint8 images (B, H, W, C) in [0, 255]")
    if images.shape != references.shape:
        raise UserError(f"images are {images.shape} and references {references.shape}; pair images of one size")
    if luma and images.shape[3] != 3:
        raise UserError(f"luma is of RGB images, got {images.shape[3]} channels; compare them without luma")


@functools.partial(jax.jit, static_argnames="luma")
def _psnr(images: Array, references: Array, luma: bool) -> Array:
    difference = _channels(_integers(images) - _integers(references), luma)
    error = jnp.mean(jnp.mean(difference**2, axis=(2, 3)), axis=1)  # by rows first: keeps float32's digits
    return 10 * jnp.log10(255**2 / error)


@functools.partial(jax.jit, static_argnames="luma")
def _ssim(images: Array, references: Array, luma: bool) -> Array:
    """Both factors of SSIM as 1 - (what differs) / (what is there).

    2ab / (a² + b²) is 1 - (a - b)² / (a² + b²), for means as for deviations. The differences are computed from the
    exact differences of pixels, and variances around mid-grey: E[x²] - E[x]² then costs few digits.
    """
    x, y = (_channels(_integers(z) - 128, luma) / 255 for z in (images, references))
    difference = _channels(_integers(images) - _integers(references), luma) / 255
    grey = (16 + 128 * sum(_LUMA) if luma else 128) / 255

    mean_x, mean_y, mean_difference = _blur(x), _blur(y), _blur(difference)
    power = _blur(x**2 + y**2) - mean_x**2 - mean_y**2
    power_of_difference = _blur(difference**2) - mean_difference**2
    light = 1 - mean_difference**2 / ((mean_x + grey) ** 2 + (mean_y + grey) ** 2 + 0.01**2)
    structure = 1 - power_of_difference / (power + 0.03**2)
    return jnp.mean(jnp.mean(light * structure, axis=(2, 3)), axis=1)


def _integers(images: Array) -> Array:
    return images.astype(jnp.int32)


def _channels(values: Array, luma: bool) -> Array:
    """Differences of colours (B, H, W, C), or of luma (B, H, W, 1), in float32."""
    values = values.astype(jnp.float32)
    return sum(weight * values[..., i : i + 1] for i, weight in enumerate(_LUMA)) if luma else values


def _blur(x: Array) -> Array:
    """The window's mean at each place where it lies inside: (B, H, W, C) -> (B, H - 10, W - 10, C)."""
    weights = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / _SIGMA) ** 2)
    weights = [float(weight) for weight in weights / weights.sum()]
    height, width = x.shape[1] - WINDOW + 1, x.shape[2] - WINDOW + 1
    x = sum(weight * x[:, i : i + height] for i, weight in enumerate(weights))
    return sum(weight * x[:, :, i : i + width] for i, weight in enumerate(weights))
