"""The terms of the variational bound (DDPM eq. 5), in bits per dimension, and their sum over a process."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax import rng
from pdm_jax.diffusion.process import Process, respace
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bound:
    """The bound of each image over N steps; columns go from the noisiest step to the least noisy."""

    total: Array  # [B] bits per dimension: sum of `terms`, and `prior`
    prior: Array  # [B] bits per dimension
    terms: Array  # [B, N] bits per dimension
    x0_mse: Array  # [B, N] squared error of the predicted x0, mean over pixels
    eps_mse: Array  # [B, N] squared error of the predicted eps, mean over pixels


def bits_per_dim(
    denoiser: Denoiser,
    process: Process,
    timesteps: np.ndarray,
    x0: Array,
    keys: Array | None,
    cond: Cond,
    *,
    variance: str = "learned",
    noises: Array | None = None,
) -> Bound:
    """The variational bound of images under the process that visits `timesteps`, as one scan; call it inside jit.

    The denoiser is asked with a scalar t, so that a step of a split model costs one network.

    Args:
      timesteps: [N] ascending.
      x0: (B, H, W, C) in [-1, 1], values on the grid of 256 levels.
      keys: [B], one a sample; the noise of a sample at a step depends on nothing else.
      variance: "learned", "small" or "large", see `Process.p_mean_variance`.
      noises: (N, B, H, W, C) to use instead, noisiest step first.
    """
    spaced = respace(process, timesteps)
    stream = None if noises is not None else rng.stream_each(keys, "likelihood")
    rows = {"i": np.arange(len(timesteps), dtype=np.int32)[::-1], "t": np.asarray(timesteps, np.int32)[::-1]}

    def term(_, xs):
        row, noise = xs
        eps = rng.normal_each(rng.fold_each(stream, row["i"]), x0.shape[1:]) if noise is None else noise
        z_t = spaced.q_sample(x0, row["i"], eps)
        prediction = denoiser(z_t, Step(t=row["t"]), cond)
        bits = vb_term(prediction, x0, z_t, row["i"], spaced, variance)
        return None, (bits, mean_flat((prediction.x0 - x0) ** 2), mean_flat((prediction.eps - eps) ** 2))

    _, columns = jax.lax.scan(term, None, (jax.tree.map(jnp.asarray, rows), noises))
    terms, x0_mse, eps_mse = (column.T for column in columns)
    prior = prior_bits(x0, spaced)
    return Bound(terms.sum(axis=1) + prior, prior, terms, x0_mse, eps_mse)


def vb_term(
    prediction: Prediction, x0: Array, z_t: Array, t: Array, process: Process, variance: str = "learned"
) -> Array:
    """One term of the bound, [B] bits per dimension: a KL, or at t = 0 the decoder's negative log-likelihood.

    Args:
      x0, z_t: (B, H, W, C).
      t: steps of `process`, a scalar or [B].
      variance: "learned", "small" or "large".
    """
    mean, _, log_variance = process.q_posterior(x0, z_t, t)
    mean_hat, _, log_variance_hat = process.p_mean_variance(prediction, z_t, t, variance)
    kl = mean_flat(normal_kl(mean, log_variance, mean_hat, log_variance_hat))
    nll = -mean_flat(discretized_log_likelihood(x0, mean_hat, 0.5 * log_variance_hat))
    return jnp.where(t == 0, nll, kl) / math.log(2)


def prior_bits(x0: Array, process: Process) -> Array:
    """KL(q(z_T | x0) || N(0, 1)), [B] bits per dimension."""
    mean = jnp.float32(process.signal[-1]) * x0
    log_variance = jnp.float32(np.log1p(-process.alpha_bar[-1]))
    return mean_flat(normal_kl(mean, log_variance, jnp.float32(0), jnp.float32(0))) / math.log(2)


def normal_kl(mean1: Array, log_variance1: Array, mean2: Array, log_variance2: Array) -> Array:
    """KL(N(mean1, var1) || N(mean2, var2)) in nats, elementwise."""
    gap = log_variance2 - log_variance1
    # expm1 keeps the digits of nearly equal variances, where gap and exp(-gap) - 1 cancel.
    return 0.5 * (gap + jnp.expm1(-gap) + (mean1 - mean2) ** 2 * jnp.exp(-log_variance2))


def discretized_log_likelihood(x: Array, mean: Array, log_scale: Array) -> Array:
    """Log probability, in nats and elementwise, of 8-bit values under a Gaussian cut into 256 bins.

    The bins of the values 0 and 255 reach to infinity.

    Args:
      x: values in [-1, 1] on the grid of 256 levels.
      mean, log_scale: of the Gaussian; log_scale is the log of its standard deviation.
    """
    inverse = jnp.exp(-log_scale)
    below_upper = _normal_cdf(inverse * (x - mean + 1 / 255))
    below_lower = _normal_cdf(inverse * (x - mean - 1 / 255))
    probability = jnp.where(x < -0.999, below_upper, jnp.where(x > 0.999, 1 - below_lower, below_upper - below_lower))
    return jnp.log(jnp.maximum(probability, 1e-12))


def sum_flat(x: Array) -> Array:
    """The sum over all axes but the first: (B, ...) to [B]."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def mean_flat(x: Array) -> Array:
    """The mean over all axes but the first: (B, ...) to [B]."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))


def _normal_cdf(x: Array) -> Array:
    """The tanh approximation of the standard normal's cumulative distribution that DDPM's bound is reported with."""
    return 0.5 * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
