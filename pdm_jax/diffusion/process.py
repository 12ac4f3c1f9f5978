"""The Gaussian noise process: q(z_t | x0), q(z_s | z_t, x0), and the sampler's p(z_s | z_t).

Tables are NumPy arrays, float64 unless the config says otherwise, and are cast to float32 where they meet an image.
Step t = 0 has the least noise; alpha_bar is the cumulative product of 1 - beta.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import jax.numpy as jnp
import numpy as np

from pdm_jax.config import DiffusionConfig
from pdm_jax.diffusion.schedules import make_betas
from pdm_jax.errors import UserError
from pdm_jax.types import Array, Prediction

_SMALLEST = 1e-20  # what a variance of 0 becomes before its logarithm is taken


@dataclasses.dataclass(frozen=True, eq=False)
class Process:
    """Tables over the steps [T], and the distributions they define.

    In all methods t is int32, a scalar or [B]; images are (B, H, W, C); results are float32.
    """

    beta: np.ndarray  # [T] noise variance added from s to t
    alpha_bar: np.ndarray  # [T] squared signal at t
    alpha_bar_prev: np.ndarray  # [T] squared signal at s, the step before t

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.beta)

    @cached_property
    def signal(self) -> np.ndarray:
        """sqrt(alpha_bar) [T]."""
        return np.sqrt(self.alpha_bar)

    @cached_property
    def sigma(self) -> np.ndarray:
        """sqrt(1 - alpha_bar) [T]; signal^2 + sigma^2 = 1."""
        return np.sqrt(1 - self.alpha_bar)

    @cached_property
    def snr(self) -> np.ndarray:
        """Signal-to-noise ratio alpha_bar / (1 - alpha_bar) [T], falling with t."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @cached_property
    def logsnr(self) -> np.ndarray:
        """log(snr) [T]."""
        return np.log(self.snr)

    @cached_property
    def posterior_x0(self) -> np.ndarray:
        """Weight [T] of x0 in the mean of q(z_s | z_t, x0) (DDPM, eq. 7)."""
        return self.beta * np.sqrt(self.alpha_bar_prev) / (1 - self.alpha_bar)

    @cached_property
    def posterior_z(self) -> np.ndarray:
        """Weight [T] of z_t in the mean of q(z_s | z_t, x0) (DDPM, eq. 7)."""
        return (1 - self.alpha_bar_prev) * np.sqrt(1 - self.beta) / (1 - self.alpha_bar)

    @cached_property
    def posterior_variance(self) -> np.ndarray:
        """beta_tilde [T], the variance of q(z_s | z_t, x0); 0 at t = 0 where alpha_bar_prev is 1."""
        return self.beta * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)

    @cached_property
    def posterior_log_variance(self) -> np.ndarray:
        """log(beta_tilde) [T], the smallest log variance; a first entry of 0 is replaced by the second (as ADM)."""
        return self.fixed_log_variance("small")

    @cached_property
    def log_beta(self) -> np.ndarray:
        """log(beta) [T], the largest log variance."""
        return np.log(np.maximum(self.beta, _SMALLEST))

    @cached_property
    def fixed_large_variance(self) -> np.ndarray:
        """beta [T] with beta_tilde of the second step as the first entry (ADM's FIXED_LARGE)."""
        return np.append(self._replace_first_zero(self.posterior_variance)[:1], self.beta[1:])

    def fixed_variance(self, variance: str | float) -> np.ndarray:
        """A variance [T] that is not learned: "small", "large", or (1 - v) beta_tilde + v beta of a share v."""
        if variance == "large":
            return self.fixed_large_variance
        share = 0.0 if variance == "small" else variance
        return (1 - share) * self.posterior_variance + share * self.beta

    def fixed_log_variance(self, variance: str | float) -> np.ndarray:
        """log(fixed_variance) [T]; a first entry of 0 is replaced by the second (as ADM)."""
        return np.log(np.maximum(self._replace_first_zero(self.fixed_variance(variance)), _SMALLEST))

    def q_sample(self, x0: Array, t: Array, eps: Array) -> Array:
        """z_t = signal * x0 + sigma * eps, from q(z_t | x0)."""
        return expand_to(self.signal, t, x0) * x0 + expand_to(self.sigma, t, x0) * eps

    def q_posterior(self, x0: Array, z_t: Array, t: Array) -> tuple[Array, Array, Array]:
        """q(z_s | z_t, x0) as mean (B, H, W, C), variance and clipped log variance (both broadcast against it)."""
        mean = expand_to(self.posterior_x0, t, x0) * x0 + expand_to(self.posterior_z, t, x0) * z_t
        variance = expand_to(self.posterior_variance, t, x0)
        return mean, variance, expand_to(self.posterior_log_variance, t, x0)

    def p_mean_variance(
        self, prediction: Prediction, z_t: Array, t: Array, variance: str | float = "learned"
    ) -> tuple[Array, Array, Array]:
        """p(z_s | z_t) as mean, variance and log variance, as `q_posterior` with the predicted x0.

        Args:
          variance: "learned" (`prediction.variance` goes from beta_tilde at 0 to beta at 1), "small" (beta_tilde),
            "large" (beta), or a share v in [0, 1]: (1 - v) beta_tilde + v beta (LDM's `v_posterior`).
        """
        check_variance(variance)
        mean, _, log_small = self.q_posterior(prediction.x0, z_t, t)
        if variance != "learned":
            log_variance = expand_to(self.fixed_log_variance(variance), t, z_t)
            return mean, expand_to(self.fixed_variance(variance), t, z_t), log_variance
        v = learned_fraction(prediction)
        log_variance = v * expand_to(self.log_beta, t, z_t) + (1 - v) * log_small
        return mean, jnp.exp(log_variance), log_variance

    def vlb_weights(self, kind: str) -> np.ndarray:
        """What LDM multiplies the squared error of "eps" or "x0" by to report a bound [T]; it trains nothing.

        The weight of t = 0 is that of t = 1. That of "x0" divides by 2 - alpha_bar, a slip of the program that its
        numbers have.

        Raises:
          UserError: the kind is another.
        """
        if kind not in ("eps", "x0"):
            raise UserError(f"a bound is reported of errors of 'eps' or 'x0', not of {kind!r}")
        if kind == "x0":
            weights = 0.5 * self.signal / (2 - self.alpha_bar)
        else:
            variance = np.maximum(self.posterior_variance, _SMALLEST)
            weights = self.beta**2 / (2 * variance * (1 - self.beta) * (1 - self.alpha_bar))
        return np.append(weights[1:2], weights[1:])

    def step_of_snr(self, target: float) -> int:
        """The step whose signal-to-noise ratio is nearest to `target`, on a logarithmic scale."""
        if target <= 0:
            raise UserError(f"a signal-to-noise ratio of {target} is not possible; give one above 0")
        return int(np.argmin(np.abs(self.logsnr - np.log(target))))

    def _replace_first_zero(self, table: np.ndarray) -> np.ndarray:
        return np.append(table[1:2], table[1:]) if table[0] == 0 and self.num_steps > 1 else table


def make_process(config: DiffusionConfig) -> Process:
    """The process of a config; raises `UserError` for settings that it does not know."""
    if config.dtype not in ("float64", "float32"):
        raise UserError(f"diffusion.dtype is {config.dtype!r}; expected 'float64' or 'float32'")
    beta = make_betas(config.schedule, config.num_steps, config.beta_min, config.beta_max, config.dtype)
    alpha_bar = np.cumprod(1 - beta)
    return Process(beta, alpha_bar, _shifted(alpha_bar, alpha_bar[0], config.last_alpha))


def respace(process: Process, timesteps: np.ndarray, last_alpha: str = "one") -> Process:
    """The process that visits only `timesteps` [N], ascending; its step i is the original's timesteps[i].

    Args:
      last_alpha: alpha_bar before the first of them: "one" (1, no noise) or "first" (alpha_bar of t = 0).

    Raises:
      UserError: timesteps that are empty, not ascending or outside [0, T), or an unknown `last_alpha`.
    """
    timesteps = np.asarray(timesteps)
    if timesteps.ndim != 1 or not timesteps.size or np.any(np.diff(timesteps) < 0):
        raise UserError(f"timesteps are {timesteps.tolist()}; expected at least one, in ascending order")
    if timesteps[0] < 0 or timesteps[-1] >= process.num_steps:
        raise UserError(f"timesteps {timesteps[0]} to {timesteps[-1]} leave [0, {process.num_steps}) of the process")
    alpha_bar = process.alpha_bar[timesteps]
    alpha_bar_prev = _shifted(alpha_bar, process.alpha_bar[0], last_alpha)
    return Process(1 - alpha_bar / alpha_bar_prev, alpha_bar, alpha_bar_prev)


def expand_to(table: np.ndarray, t: Array | int, x: Array) -> Array:
    """Float32 entries of a table [T] at t, a scalar or [B], shaped to broadcast against x (B, ...)."""
    values = jnp.asarray(table, jnp.float32)[t]
    return values.reshape(values.shape + (1,) * (x.ndim - 1)) if values.ndim else values


def check_variance(variance: str | float) -> None:
    """Raises a `UserError` unless `variance` names a variance of p(z_s | z_t)."""
    if not (0 <= variance <= 1 if isinstance(variance, int | float) else variance in ("learned", "small", "large")):
        raise UserError(
            f"the sampler's variance is {variance!r}; expected 'learned', 'small' or 'large', or a share in [0, 1]"
        )


def learned_fraction(prediction: Prediction) -> Array:
    """`prediction.variance`, or a `UserError` where the network has none."""
    if prediction.variance is None:
        raise UserError("the network predicts no variance; use the variance 'small' or 'large', or the sampler ddim")
    return prediction.variance


def _shifted(alpha_bar: np.ndarray, first: np.floating, last_alpha: str) -> np.ndarray:
    """alpha_bar one step earlier."""
    if last_alpha not in ("one", "first"):
        raise UserError(f"last_alpha is {last_alpha!r}; expected 'one' or 'first'")
    return np.append(np.asarray(1 if last_alpha == "one" else first, alpha_bar.dtype), alpha_bar[:-1])
