"""The optimal reconstruction x*(z_t, t) of an empirical data set, in closed form (PDM equation 4, appendix A).

If the data are N images, the posterior q(x | z_t) puts a weight on each: a softmax of -|z_t - signal x|² / (2 sigma²).
x* is its mean. All is NumPy in float64; images are in [-1, 1].
"""

from __future__ import annotations

import numpy as np

from pdm_jax.diffusion import Process

_COARSEST = 8  # pixels: waves that are shorter than this are fine detail


def posterior(z_t: np.ndarray, t: int, images: np.ndarray, process: Process) -> np.ndarray:
    """Weights (B, N) of `images` (N, H, W, C) given z_t (B, H, W, C); each row sums to 1."""
    z, x = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (z_t, images))
    signal, sigma = process.signal[t], process.sigma[t]
    # |z|² is common to all images.
    logits = (signal * z @ x.T - 0.5 * signal**2 * np.square(x).sum(axis=1)) / sigma**2
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def optimal_x0(weights: np.ndarray, images: np.ndarray) -> np.ndarray:
    """x* (B, H, W, C): the mean of `images` (N, H, W, C) under weights (B, N)."""
    return np.tensordot(weights, images, axes=1)


def effective_number(weights: np.ndarray) -> np.ndarray:
    """How many images a posterior holds [B]: exp of its entropy, from 1 to N."""
    logs = np.log(weights, out=np.zeros_like(weights), where=weights > 0)
    return np.exp(-(weights * logs).sum(axis=-1))


def fine_detail(images: np.ndarray) -> float:
    """Power of waves shorter than 8 pixels in images (B, H, W, C).

    It is their part of the squares of a pixel's colours, on the mean of all pixels and images.
    """
    height, width = images.shape[1:3]
    rows, cols = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    fine = np.hypot(rows, cols) > 1 / _COARSEST
    spectrum = np.fft.fft2(images, axes=(1, 2), norm="ortho")
    power = np.square(np.abs(spectrum)) * fine[None, :, :, None]
    return float(power.sum(axis=(1, 2)).mean() / (height * width))
