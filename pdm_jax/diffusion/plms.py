"""PLMS (Liu et al. 2022, arXiv 2202.09778): DDIM along a mean of the newest noise predictions, as LDM runs it.

The first step has none to remember: it is an improved Euler step, which asks the denoiser a second time where a plain
DDIM step ends. Then Adams-Bashforth of order 2, 3 and 4; eps are remembered as the denoiser gave them, guided.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.diffusion.process import Process
from pdm_jax.diffusion.samplers import Ask, Row, ddim
from pdm_jax.types import Array, Prediction

# Weights of the eps of now and of up to three others, the newest first, by how many came before. In the first step the
# other one is that of the end of a DDIM step.
_WEIGHTS = np.array([[12, 12, 0, 0], [36, -12, 0, 0], [46, -32, 10, 0], [55, -59, 37, -9]], np.float32) / 24


@dataclasses.dataclass(frozen=True)
class Plms:
    """DDIM with a memory of three eps, see `plms`."""

    is_noisy: bool = dataclasses.field(default=False, init=False)

    def table(self, process: Process, timesteps: np.ndarray, last_alpha: str = "one") -> dict[str, np.ndarray]:
        """DDIM's columns, `order` (how many eps are remembered), and x0 = inverse_signal * z - ratio * eps."""
        table = ddim().table(process, timesteps, last_alpha)
        t = table["t"]
        return table | {
            "order": np.minimum(np.arange(len(t)), len(_WEIGHTS) - 1).astype(np.int32),
            "inverse_signal": (1 / process.signal[t]).astype(np.float32),
            "ratio": (process.sigma[t] / process.signal[t]).astype(np.float32),
        }

    def memory(self, z: Array) -> Array:
        """Zeros (3, B, H, W, C)."""
        return jnp.zeros((_WEIGHTS.shape[1] - 1, *z.shape), jnp.float32)

    def correct(self, z: Array, prediction: Prediction, memory: Array, row: Row, ask: Ask) -> tuple[Prediction, Array]:
        """The prediction with the mean of eps and its x0, and the eps to remember, the newest first."""

        def at_the_end() -> Array:
            t_next = jnp.where(row["t_next"] < 0, row["t"], row["t_next"])  # a single step asks at t again, as LDM
            return ask(self.step(z, prediction, row), t_next).eps

        newest = jax.lax.cond(row["order"] == 0, at_the_end, lambda: memory[0])
        weights = jnp.asarray(_WEIGHTS)[row["order"]]
        eps = sum(w * e for w, e in zip(weights, (prediction.eps, newest, *memory[1:]), strict=True))
        x0 = row["inverse_signal"] * z - row["ratio"] * eps
        return Prediction(x0, eps, prediction.variance), jnp.stack([prediction.eps, *memory[:-1]])

    def step(self, z: Array, prediction: Prediction, row: Row, noise: Array | None = None) -> Array:
        """DDIM's step."""
        return row["x0"] * prediction.x0 + row["eps"] * prediction.eps


def plms() -> Plms:
    """The pseudo linear multi-step sampler; deterministic, one call of the denoiser a step but two in the first."""
    return Plms()
