"""Samplers: a table of coefficients made once in float64, and the step that uses one row of it.

Every sampler here is linear in what it knows: z_next = x0 * x0_hat + eps * eps_hat + z * z_t + std * noise. A sampler
has `table(process, timesteps, last_alpha)`, which gives columns [N] in the order of the steps (float32 coefficients,
int32 `t` and `t_next`), `step(z, prediction, row, noise)`, and `is_noisy`: whether `step` uses noise. One that learns
from the steps before (`plms`) has a memory, by which it corrects what the denoiser says; all others are `OneStep`.

A last step that reaches alpha_bar = 1, or that has nowhere to go because t = 0 and `last_alpha` is "first" (as in
PDM's program), returns the predicted x0 without noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from pdm_jax.diffusion.process import Process, check_variance, learned_fraction, respace
from pdm_jax.errors import UserError
from pdm_jax.types import Array, Prediction

Row = Mapping[str, Array]  # entries of the table's columns, scalars or (B, 1, 1, 1)
Ask = Callable[[Array, Array], Prediction]  # (z (B, H, W, C), t) -> what the denoiser says of another state


class Sampler(Protocol):
    """What `sample` needs of a sampler; the meaning is in the module's text."""

    @property
    def is_noisy(self) -> bool: ...

    def table(self, process: Process, timesteps: np.ndarray, last_alpha: str = "one") -> dict[str, np.ndarray]: ...

    def step(self, z: Array, prediction: Prediction, row: Row, noise: Array | None) -> Array: ...

    def memory(self, z: Array) -> Any:
        """What is remembered before the first step, of states like z: a pytree of arrays."""

    def correct(self, z: Array, prediction: Prediction, memory: Any, row: Row, ask: Ask) -> tuple[Prediction, Any]:
        """What `step` is given, and the memory after this step."""


class OneStep:
    """A sampler without a memory."""

    def memory(self, z: Array) -> tuple[()]:
        """None."""
        return ()

    def correct(
        self, z: Array, prediction: Prediction, memory: tuple[()], row: Row, ask: Ask
    ) -> tuple[Prediction, tuple[()]]:
        """The prediction as it is."""
        return prediction, memory


@dataclasses.dataclass(frozen=True)
class Ancestral(OneStep):
    """Draws from p(z_s | z_t), see `ancestral`."""

    variance: str | float
    temperature: float
    is_noisy: bool = dataclasses.field(default=True, init=False)

    def table(self, process: Process, timesteps: np.ndarray, last_alpha: str = "one") -> dict[str, np.ndarray]:
        """Columns `x0`, `z`, `noise` (the temperature, but 0 in a last step), log variances `log_low` and `log_high`.

        A fixed variance is `log_low`; a learned one goes between the two.
        """
        spaced = respace(process, timesteps, last_alpha)
        ends = _ends(spaced)
        fixed = "small" if self.variance == "learned" else self.variance
        return _descending(
            timesteps,
            x0=np.where(ends, 1, spaced.posterior_x0),
            z=np.where(ends, 0, spaced.posterior_z),
            noise=np.where(ends, 0, self.temperature),
            log_low=spaced.fixed_log_variance(fixed),
            log_high=spaced.log_beta,
        )

    def step(self, z: Array, prediction: Prediction, row: Row, noise: Array) -> Array:
        """z_s (B, H, W, C) from z_t, what the denoiser said of it, and standard normal noise."""
        log_variance = row["log_low"]
        if self.variance == "learned":
            v = learned_fraction(prediction)
            log_variance = v * row["log_high"] + (1 - v) * row["log_low"]
        mean = row["x0"] * prediction.x0 + row["z"] * z
        return mean + row["noise"] * jnp.exp(0.5 * log_variance) * noise


@dataclasses.dataclass(frozen=True)
class Ddim(OneStep):
    """DDIM, see `ddim`."""

    eta: float
    temperature: float

    @property
    def is_noisy(self) -> bool:
        """Whether eta is above 0."""
        return self.eta > 0

    def table(self, process: Process, timesteps: np.ndarray, last_alpha: str = "one") -> dict[str, np.ndarray]:
        """Columns `x0`, `eps` and `std`."""
        spaced = respace(process, timesteps, last_alpha)
        ends = _ends(spaced)
        std = self.eta * np.sqrt(spaced.posterior_variance)
        return _descending(
            timesteps,
            x0=np.where(ends, 1, np.sqrt(spaced.alpha_bar_prev)),
            eps=np.where(ends, 0, np.sqrt(np.maximum(1 - spaced.alpha_bar_prev - std**2, 0))),
            std=np.where(ends, 0, std * self.temperature),
        )

    def step(self, z: Array, prediction: Prediction, row: Row, noise: Array | None) -> Array:
        """z_s (B, H, W, C) from what the denoiser said of z_t, and standard normal noise if eta is above 0."""
        mean = row["x0"] * prediction.x0 + row["eps"] * prediction.eps
        return mean + row["std"] * noise if self.is_noisy else mean


@dataclasses.dataclass(frozen=True)
class DdimInverse(OneStep):
    """DDIM run from the image to the noise, see `ddim_inverse`."""

    is_noisy: bool = dataclasses.field(default=False, init=False)

    def table(self, process: Process, timesteps: np.ndarray, last_alpha: str = "one") -> dict[str, np.ndarray]:
        """Columns `x0`, `eps` and `z`; the first row goes from the clean image to the first of `timesteps`."""
        spaced = respace(process, timesteps, last_alpha)
        first = np.arange(spaced.num_steps) == 0
        # An image has less noise than any t the network knows: it is asked for eps at the first, and told the truth
        # about alpha_bar. All other steps start at a t that is in the table, where x0_hat and eps_hat make up z_t.
        signal = np.sqrt(spaced.alpha_bar_prev)
        sigma = np.sqrt(1 - spaced.alpha_bar_prev)
        ratio = spaced.signal / signal
        timesteps = np.asarray(timesteps, np.int32)
        return {
            "t": np.append(timesteps[:1], timesteps[:-1]),
            "t_next": timesteps,
            "x0": np.where(first, 0, spaced.signal).astype(np.float32),
            "eps": np.where(first, spaced.sigma - ratio * sigma, spaced.sigma).astype(np.float32),
            "z": np.where(first, ratio, 0).astype(np.float32),
        }

    def step(self, z: Array, prediction: Prediction, row: Row, noise: Array | None = None) -> Array:
        """z_t (B, H, W, C), the next noisier state, from z_s and what the denoiser said of it."""
        return row["x0"] * prediction.x0 + row["eps"] * prediction.eps + row["z"] * z


def ancestral(variance: str | float = "learned", temperature: float = 1.0) -> Ancestral:
    """The sampler of DDPM: draws from p(z_s | z_t).

    Args:
      variance: "learned" (the network's, between beta_tilde and beta), "small" (beta_tilde), "large" (beta), or the
        share of beta in (1 - v) beta_tilde + v beta, in [0, 1] (LDM's `v_posterior`; 0 is "small").
      temperature: what the noise is multiplied by.
    """
    check_variance(variance)
    _check_temperature(temperature)
    return Ancestral(variance, float(temperature))


def ddim(eta: float = 0.0, temperature: float = 1.0) -> Ddim:
    """The sampler of DDIM (Song et al. 2021, eq. 12).

    Args:
      eta: in [0, 1]: 0 is deterministic, 1 as noisy as `ancestral("small")`.
      temperature: what the noise is multiplied by, and nothing else.
    """
    if not 0 <= eta <= 1:
        raise UserError(f"eta is {eta}; expected 0 (deterministic) to 1 (as noisy as ancestral)")
    _check_temperature(temperature)
    return Ddim(float(eta), float(temperature))


def ddim_inverse() -> DdimInverse:
    """DDIM backwards: from an image to the noise that `ddim()` over the same timesteps makes it of."""
    return DdimInverse()


def _check_temperature(temperature: float) -> None:
    if temperature < 0:
        raise UserError(f"temperature is {temperature:g}; expected at least 0 (no noise), 1 is the sampler's own")


def _ends(spaced: Process) -> np.ndarray:
    """Where a step ends with the predicted x0 [N]: it reaches alpha_bar 1, or is the last and would not move."""
    last = np.arange(spaced.num_steps) == 0
    return (spaced.alpha_bar_prev == 1) | (last & (spaced.alpha_bar_prev == spaced.alpha_bar))


def _descending(timesteps: np.ndarray, **columns: np.ndarray) -> dict[str, np.ndarray]:
    """A table from ascending columns: `t`, `t_next` (-1 after the last), and the coefficients, cast once."""
    t = np.asarray(timesteps, np.int32)
    table = {"t": t, "t_next": np.append(np.int32(-1), t[:-1])}
    table |= {name: column.astype(np.float32) for name, column in columns.items()}
    return {name: column[::-1] for name, column in table.items()}
