"""Noise schedules: how much noise each step adds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pdm_jax.errors import UserError


def make_betas(
    name: str, num_steps: int, beta_min: float, beta_max: float, dtype: npt.DTypeLike = np.float64
) -> np.ndarray:
    """The noise variances beta_t of a schedule, from the least noisy step to the most.

    Args:
      name: "linear" (DDPM; LDM calls it "sqrt_linear", which is accepted too), "ldm_linear" (linear in sqrt(beta),
        what LDM calls "linear"), "sqrt" (square root of a linear one), "cosine" (Nichol & Dhariwal 2021, eq. 17,
        each beta at most 0.999) or "constant" (beta_max at every step).
      num_steps: T.
      beta_min, beta_max: what the schedule runs between; "cosine" has no use for them.
      dtype: in which it is computed, the ends included.

    Returns:
      beta [T] in (0, 1).

    Raises:
      UserError: an unknown name, no steps, or betas that leave (0, 1).
    """
    if name not in _SCHEDULES:
        raise UserError(f"schedule is {name!r}; expected one of {', '.join(_SCHEDULES)}")
    if num_steps < 1:
        raise UserError(f"a schedule of {num_steps} steps is empty; num_steps must be at least 1")
    if min(beta_min, beta_max) < 0:
        raise UserError(f"beta_min {beta_min} and beta_max {beta_max} must not be negative")
    dtype = np.dtype(dtype)
    beta = _SCHEDULES[name](num_steps, dtype.type(beta_min), dtype.type(beta_max), dtype)
    if not np.all((beta > 0) & (beta < 1)):
        raise UserError(f"schedule {name!r} has betas outside (0, 1); choose other beta_min and beta_max")
    return beta


def _linear(num_steps: int, beta_min: np.floating, beta_max: np.floating, dtype: np.dtype) -> np.ndarray:
    return np.linspace(beta_min, beta_max, num_steps, dtype=dtype)


def _ldm_linear(num_steps: int, beta_min: np.floating, beta_max: np.floating, dtype: np.dtype) -> np.ndarray:
    return np.linspace(beta_min**0.5, beta_max**0.5, num_steps, dtype=dtype) ** 2


def _sqrt(num_steps: int, beta_min: np.floating, beta_max: np.floating, dtype: np.dtype) -> np.ndarray:
    return np.sqrt(np.linspace(beta_min, beta_max, num_steps, dtype=dtype))


def _cosine(num_steps: int, beta_min: np.floating, beta_max: np.floating, dtype: np.dtype) -> np.ndarray:
    u = np.arange(num_steps + 1, dtype=dtype) / num_steps
    alpha_bar = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999).astype(dtype)


def _constant(num_steps: int, beta_min: np.floating, beta_max: np.floating, dtype: np.dtype) -> np.ndarray:
    return np.full(num_steps, beta_max, dtype)


_SCHEDULES: dict[str, Callable[[int, np.floating, np.floating, np.dtype], np.ndarray]] = {
    "linear": _linear,
    "cosine": _cosine,
    "ldm_linear": _ldm_linear,
    "sqrt_linear": _linear,
    "sqrt": _sqrt,
    "constant": _constant,
}
