"""The bottom of every stack of wrappers: a network and its parameters as a denoiser."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from pdm_jax.diffusion import Process, to_prediction
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Array, Cond, Denoiser, Params, Prediction, Step

Network = Callable[[Array, Array, Cond], tuple[Array, Array | None]]  # (z_t, t [B or 1], cond) -> (output, variance)


def bind(
    definition: Definition,
    params: Params,
    process: Process,
    *,
    prediction: str,
    variance: Callable[[Array], Array] | None = None,
) -> Denoiser:
    """A network with these parameters as a denoiser; arguments as in `as_denoiser`. Build it while tracing."""
    return as_denoiser(definition.bind(params), process, prediction=prediction, variance=variance)


def as_denoiser(
    network: Network, process: Process, *, prediction: str, variance: Callable[[Array], Array] | None = None
) -> Denoiser:
    """A function of (z_t, t, cond) as a denoiser.

    Args:
      network: puts out (B, H, W, C), and a variance or None.
      process: converts the output at (z_t, t).
      prediction: what the network puts out: "x0", "eps" or "v".
      variance: turns the network's variance into the fraction of `Prediction.variance`
        (`diffusion.from_pdm`, `diffusion.from_adm`); None ignores it.
    """

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        output, v = network(z_t, jnp.atleast_1d(step.t), cond)
        fraction = variance(v.astype(jnp.float32)) if variance is not None and v is not None else None
        return to_prediction(output, prediction, z_t, step.t, process, variance=fraction)

    return denoise
