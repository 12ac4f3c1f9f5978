"""What a network may put out (x0, eps or v), converted into one `Prediction`.

All three say the same of a given z_t = signal * x0 + sigma * eps; v = signal * eps - sigma * x0
(Salimans & Ho 2022). Images are (B, H, W, C); t is a scalar or [B].
"""

from __future__ import annotations

import jax.numpy as jnp

from pdm_jax.diffusion.process import Process, expand_to
from pdm_jax.errors import UserError
from pdm_jax.types import Array, Prediction

KINDS = ("x0", "eps", "v")


def to_prediction(
    output: Array, kind: str, z_t: Array, t: Array, process: Process, variance: Array | None = None
) -> Prediction:
    """A network's output at (z_t, t) as x0 and eps in float32.

    Args:
      output: what the network put out, of any float type.
      kind: what it is: "x0", "eps" or "v".
      variance: the fraction in [0, 1] from log(beta_tilde) to log(beta) (see `from_pdm`, `from_adm`), or None.
    """
    check_kind(kind)
    output, z_t = output.astype(jnp.float32), z_t.astype(jnp.float32)
    if variance is not None:
        variance = variance.astype(jnp.float32)
    signal, sigma = expand_to(process.signal, t, z_t), expand_to(process.sigma, t, z_t)
    if kind == "x0":
        return Prediction(output, eps_from_x0(output, z_t, t, process), variance)
    if kind == "eps":
        return Prediction(x0_from_eps(output, z_t, t, process), output, variance)
    return Prediction(signal * z_t - sigma * output, sigma * z_t + signal * output, variance)


def eps_from_x0(x0: Array, z_t: Array, t: Array, process: Process) -> Array:
    """The noise that makes z_t of x0."""
    return (z_t - expand_to(process.signal, t, z_t) * x0) / expand_to(process.sigma, t, z_t)


def x0_from_eps(eps: Array, z_t: Array, t: Array, process: Process) -> Array:
    """The image that this noise made z_t of."""
    ratio = expand_to(process.sigma / process.signal, t, z_t)
    return expand_to(1 / process.signal, t, z_t) * z_t - ratio * eps


def v_from_x0_eps(x0: Array, eps: Array, t: Array, process: Process) -> Array:
    """v = signal * eps - sigma * x0."""
    return expand_to(process.signal, t, x0) * eps - expand_to(process.sigma, t, x0) * x0


def from_pdm(v: Array) -> Array:
    """PDM's variance output in [0, 1], where 1 is beta_tilde, as the fraction of `Prediction.variance`."""
    return 1 - v


def from_adm(v: Array) -> Array:
    """ADM's variance output in [-1, 1], where 1 is beta, as the fraction of `Prediction.variance`."""
    return (v + 1) / 2


def check_kind(kind: str) -> None:
    """Raises a `UserError` unless `kind` is a parameterisation."""
    if kind not in KINDS:
        raise UserError(f"prediction is {kind!r}; expected one of {', '.join(KINDS)}")
