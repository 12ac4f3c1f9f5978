"""Keeping the predicted x0 inside the range of images: static and dynamic thresholds, and the wrapper `clipped`."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from pdm_jax.diffusion import Process, to_prediction
from pdm_jax.errors import UserError
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step

Threshold = Callable[[Array], Array]  # x0 (B, H, W, C) -> x0


def clipped(
    denoiser: Denoiser, process: Process, threshold: str | Threshold, *, unclipped_last: bool = False
) -> Denoiser:
    """A denoiser whose x0 is thresholded and whose eps is recomputed to match; its variance stays.

    Args:
      threshold: "none", "static", "dynamic", or a function.
      unclipped_last: a sampler's last step is left alone.
    """
    limit = named(threshold)
    if limit is none:
        return denoiser

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        prediction = denoiser(z_t, step, cond)
        x0 = limit(prediction.x0)
        if unclipped_last and step.is_last is not None:
            x0 = jnp.where(step.is_last, prediction.x0, x0)
        return to_prediction(x0, "x0", z_t, step.t, process, prediction.variance)

    return denoise


def named(threshold: str | Threshold, percentile: float = 99.5) -> Threshold:
    """The threshold of a name, "dynamic" with this percentile; a function is returned as it is.

    Raises:
      UserError: there is no such name, or no such percentile.
    """
    thresholds = {"none": none, "static": static, "dynamic": dynamic(percentile)}
    if callable(threshold):
        return threshold
    if threshold not in thresholds:
        raise UserError(f"the threshold of x0 is {threshold!r}; expected one of {', '.join(thresholds)}")
    return thresholds[threshold]


def none(x0: Array) -> Array:
    """x0 as it is."""
    return x0


def static(x0: Array) -> Array:
    """x0 clipped to [-1, 1]."""
    return jnp.clip(x0, -1, 1)


def dynamic(percentile: float = 99.5) -> Threshold:
    """Clips each x0 to its own s = max(1, percentile of |x0|) and divides it by s (Imagen section 2.3, PDM).

    Args:
      percentile: in (0, 100], of the nearest rank: a value that occurs, never one between two.
    """
    if not 0 < percentile <= 100:
        raise UserError(f"the percentile of dynamic thresholding is {percentile:g}; expected above 0 and at most 100")

    def limit(x0: Array) -> Array:
        s = jnp.maximum(absolute_percentile(x0, percentile), 1)
        return jnp.clip(x0, -s, s) / s

    return limit


def absolute_percentile(x: Array, percentile: float) -> Array:
    """The percentile of |x| over all but the first axis, of the nearest rank: (B, H, W, C) to (B, 1, 1, 1)."""
    magnitudes = jnp.sort(jnp.abs(x).reshape(len(x), -1), axis=1)
    rank = round(percentile / 100 * (magnitudes.shape[1] - 1))
    return magnitudes[:, rank].reshape(len(x), *[1] * (x.ndim - 1))
