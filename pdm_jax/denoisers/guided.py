"""Classifier-free guidance (Ho & Salimans 2022) around any denoiser, everywhere or in an interval of steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pdm_jax.denoisers.thresholds import Threshold, clipped
from pdm_jax.diffusion import Process, to_prediction, x0_from_eps
from pdm_jax.errors import UserError
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step


def guided(
    denoiser: Denoiser,
    process: Process,
    scale: float | Array,
    null: Cond | Callable[[Cond], Cond],
    *,
    kind: str = "x0",
    threshold: str | Threshold = "none",
    unguided_last: bool = False,
    interval: tuple[int, int] | None = None,
) -> Denoiser:
    """A denoiser whose x0, or whose eps, is uncond + w * (cond - uncond), from one call with a doubled batch.

    w = 1 is no guidance and w = 0 unconditional; where a paper writes (1 + w) cond - w uncond, its w is ours minus 1.
    eps is recomputed from the guided and thresholded x0; the variance is that of the conditional half.

    Args:
      process: in which eps is recomputed.
      scale: w, a number, or one a sample [B].
      null: the condition without its information, or what makes it of a condition.
      kind: what it is formed of, "x0" or "eps": the same but for rounding, which is least in what the network puts out.
      threshold: of the x0, guided or not: "none", "static", "dynamic", or a function.
      unguided_last: a sampler's last step returns the conditional x0, neither guided nor thresholded (as PDM's
        program does).
      interval: guidance acts where interval[0] <= t < interval[1] (Kynkäänniemi et al. 2024); outside, the
        conditional x0 is thresholded, and in sampling (a scalar t) costs one evaluation without doubling.
        None: everywhere.

    Raises:
      UserError: there is no such kind, interval or threshold, or, when called, the null condition has other fields
        than the condition.
    """
    start, stop = interval or (0, process.num_steps)
    everywhere = (start, stop) == (0, process.num_steps)
    _check(kind, start, stop, process.num_steps)

    def guide(z_t: Array, step: Step, cond: Cond) -> tuple[Array, Prediction]:
        """The guided x0 and the conditional prediction."""
        conditional, unconditional = _both(denoiser, z_t, step, _paired(cond, null(cond) if callable(null) else null))
        w = _over_images(jnp.asarray(scale, jnp.float32), z_t)
        if kind == "x0":
            return unconditional.x0 + w * (conditional.x0 - unconditional.x0), conditional
        eps = w * conditional.eps - (w - 1) * unconditional.eps
        return x0_from_eps(eps, z_t, step.t, process), conditional

    def leave(z_t: Array, step: Step, cond: Cond) -> tuple[Array, Prediction]:
        return (conditional := denoiser(z_t, step, cond)).x0, conditional

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        acts = (start <= step.t) & (step.t < stop)
        if unguided_last and step.is_last is not None:
            acts &= ~step.is_last
        if everywhere or jnp.ndim(step.t):
            x0, conditional = guide(z_t, step, cond)
        else:
            x0, conditional = jax.lax.cond(acts, guide, leave, z_t, step, cond)
        x0 = jnp.where(_over_images(acts, z_t), x0, conditional.x0)
        return to_prediction(x0, "x0", z_t, step.t, process, conditional.variance)

    return clipped(denoise, process, threshold, unclipped_last=unguided_last)


def _both(denoiser: Denoiser, z_t: Array, step: Step, conds: Cond) -> tuple[Prediction, Prediction]:
    """The conditional and the unconditional prediction, from one call."""
    halves = denoiser(_twice(z_t), _doubled(step), conds)
    return tuple(jax.tree.map(lambda x, i=i: x[i::2], halves) for i in range(2))


def _check(kind: str, start: int, stop: int, num_steps: int) -> None:
    if kind not in ("x0", "eps"):
        raise UserError(f"guidance of {kind!r} is not possible; expected 'x0' or 'eps'")
    if not 0 <= start < stop <= num_steps:
        raise UserError(f"guidance acts on the steps [{start}, {stop}); expected 0 <= from < to <= {num_steps}")


def _paired(cond: Cond, null: Cond) -> Cond:
    """Both conditions in one batch, each sample's own and its null beside it: so they stay on that sample's device."""
    if jax.tree.structure(cond) != jax.tree.structure(null):
        fields = [[f.name for f in dataclasses.fields(c) if getattr(c, f.name) is not None] for c in (cond, null)]
        raise UserError(
            f"the condition has {fields[0]} and its null {fields[1]}; guidance needs the same fields in both"
        )
    return jax.tree.map(lambda a, b: jnp.stack([a, b], 1).reshape(-1, *a.shape[1:]), cond, null)


def _doubled(step: Step) -> Step:
    """The step of a doubled batch."""
    t = _twice(step.t) if jnp.ndim(step.t) else step.t
    return dataclasses.replace(step, t=t, previous=jax.tree.map(_twice, step.previous))


def _over_images(x: Array, images: Array) -> Array:
    """A scalar as it is; [B] as (B, 1, ...), so that it broadcasts against images (B, ...)."""
    return x.reshape(-1, *[1] * (images.ndim - 1)) if x.ndim else x


def _twice(x: Array) -> Array:
    return jnp.repeat(x, 2, axis=0)
