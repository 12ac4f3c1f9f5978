"""Training objectives, one term a sample: [B] float32, to be averaged over the global batch by the caller."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.diffusion.likelihood import mean_flat, normal_kl, sum_flat
from pdm_jax.diffusion.parameterization import check_kind, v_from_x0_eps
from pdm_jax.diffusion.process import Process, expand_to
from pdm_jax.types import Array, Prediction


def sqrt_snr_loss(prediction: Prediction, x0: Array, t: Array, process: Process) -> Array:
    """PDM's L_simple: sqrt(SNR_t) times the squared x0 error, summed over pixels and colours (PDM section 3).

    Args:
      x0: (B, H, W, C) the clean images.
      t: [B].
    """
    weight = expand_to(np.sqrt(process.snr), t, t)
    return weight * sum_flat((prediction.x0 - x0) ** 2)


def vlb_loss(prediction: Prediction, x0: Array, z_t: Array, t: Array, process: Process) -> Array:
    """PDM's L_vlb: KL(q(z_s | z_t, x0) || p(z_s | z_t)) in nats, summed over pixels and colours.

    It trains the variance only (the predicted x0 is stopped), and says nothing of t = 0, which is 0.
    """
    mean, _, log_variance = process.q_posterior(x0, z_t, t)
    stopped = dataclasses.replace(prediction, x0=jax.lax.stop_gradient(prediction.x0))
    mean_hat, _, log_variance_hat = process.p_mean_variance(stopped, z_t, t)
    return jnp.where(t > 0, sum_flat(normal_kl(mean, log_variance, mean_hat, log_variance_hat)), 0.0)


def mse_loss(prediction: Prediction, target: str, x0: Array, eps: Array, t: Array, process: Process) -> Array:
    """Squared error of x0, eps or v (`target`), averaged over pixels and colours (DDPM's L_simple for "eps").

    Args:
      x0, eps: (B, H, W, C) the clean images and the noise that made z_t of them.
      t: [B].
    """
    return mean_flat(_error(prediction, target, x0, eps, t, process) ** 2)


def l1_loss(prediction: Prediction, target: str, x0: Array, eps: Array, t: Array, process: Process) -> Array:
    """Absolute error, averaged; arguments as in `mse_loss` (some of LDM's models)."""
    return mean_flat(jnp.abs(_error(prediction, target, x0, eps, t, process)))


def _error(prediction: Prediction, target: str, x0: Array, eps: Array, t: Array, process: Process) -> Array:
    check_kind(target)
    if target == "x0":
        return prediction.x0 - x0
    if target == "eps":
        return prediction.eps - eps
    return v_from_x0_eps(prediction.x0, prediction.eps, t, process) - v_from_x0_eps(x0, eps, t, process)
