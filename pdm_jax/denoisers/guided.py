"""Classifier-free guidance (Ho & Salimans 2022) around any denoiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pdm_jax.denoisers.thresholds import Threshold, named
from pdm_jax.diffusion import Process, to_prediction
from pdm_jax.errors import UserError
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step


def guided(
    denoiser: Denoiser,
    process: Process,
    scale: float | Array,
    null: Cond | Callable[[Cond], Cond],
    *,
    threshold: str | Threshold = "none",
    unguided_last: bool = False,
) -> Denoiser:
    """A denoiser with x0 = uncond + scale * (cond - uncond), from one call with a doubled batch.

    eps is recomputed from the guided and thresholded x0; the variance is that of the conditional half.

    Args:
      process: in which eps is recomputed.
      scale: w; 1 is no guidance. A number, or one a sample [B].
      null: the condition without its information, or what makes it of a condition.
      threshold: of the guided x0: "none", "static", "dynamic", or a function.
      unguided_last: a sampler's last step returns the conditional x0, neither guided nor thresholded (as PDM's
        program does).

    Raises:
      UserError: when called, if the null condition has other fields than the condition.
    """
    limit = named(threshold)

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        both = _paired(cond, null(cond) if callable(null) else null)
        doubled = dataclasses.replace(
            step,
            t=_twice(step.t) if jnp.ndim(step.t) else step.t,
            previous=jax.tree.map(_twice, step.previous),
        )
        halves = denoiser(_twice(z_t), doubled, both)
        conditional, unconditional = (jax.tree.map(part, halves) for part in (_first_half, _second_half))
        w = jnp.asarray(scale, jnp.float32)
        w = w.reshape(-1, *[1] * (z_t.ndim - 1)) if w.ndim else w
        x0 = limit(unconditional.x0 + w * (conditional.x0 - unconditional.x0))
        if unguided_last and step.is_last is not None:
            x0 = jnp.where(step.is_last, conditional.x0, x0)
        return to_prediction(x0, "x0", z_t, step.t, process, conditional.variance)

    return denoise


def _paired(cond: Cond, null: Cond) -> Cond:
    """Both conditions in one batch, the given one first."""
    if jax.tree.structure(cond) != jax.tree.structure(null):
        fields = [[f.name for f in dataclasses.fields(c) if getattr(c, f.name) is not None] for c in (cond, null)]
        raise UserError(
            f"the condition has {fields[0]} and its null {fields[1]}; guidance needs the same fields in both"
        )
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), cond, null)


def _twice(x: Array) -> Array:
    return jnp.concatenate([x, x])


def _first_half(x: Array) -> Array:
    return x[: len(x) // 2]


def _second_half(x: Array) -> Array:
    return x[len(x) // 2 :]
