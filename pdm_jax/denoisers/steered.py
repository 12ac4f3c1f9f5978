"""Guidance by gradients: towards a class, or towards a picture (LDM appendix C; Dhariwal & Nichol 2021, algorithm 2).

Both subtract sigma_t times the gradient of a log probability from eps, since eps = -sigma_t times the score. LDM's
eq. 16 prints a plus, which would steer away.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pdm_jax.diffusion import Process, to_prediction
from pdm_jax.diffusion.process import expand_to
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step

LogProb = Callable[[Array, Array, Cond], Array]  # (z_t (B, H, W, C), t [B], cond) -> [B]
Compare = Callable[[Array, Array], Array]  # images twice -> distances [B]


def classifier_guided(denoiser: Denoiser, process: Process, log_prob: LogProb, scale: float | Array) -> Denoiser:
    """A denoiser whose eps is moved towards what a classifier of noisy images takes for the condition.

    Put it outside `guided`, where each sample has its own condition.

    Args:
      process: in which x0 is computed of the moved eps.
      log_prob: of the condition, given z_t; differentiable (`of_label` makes it of a network's logits).
      scale: of the gradient, a number or one a sample [B]; 1 is Bayes' rule, 0 none.
    """

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        t = jnp.broadcast_to(step.t, len(z_t))
        gradient = jax.grad(lambda z: log_prob(z, t, cond).sum())(z_t.astype(jnp.float32))
        return _moved(denoiser(z_t, step, cond), gradient, z_t, step, process, scale)

    return denoise


def of_label(classify: Callable[[Array, Array], Array]) -> LogProb:
    """The log probability of `cond.label` by a classifier (z_t, t) -> logits (B, num_classes)."""

    def log_prob(z_t: Array, t: Array, cond: Cond) -> Array:
        values = jax.nn.log_softmax(classify(z_t, t).astype(jnp.float32))
        return jnp.take_along_axis(values, cond.label[:, None], 1)[:, 0]

    return log_prob


def image_guided(
    denoiser: Denoiser, process: Process, distance: Callable[[Array], Array], scale: float | Array
) -> Denoiser:
    """A denoiser whose eps is moved to where the x0 it will predict is nearer to a picture.

    The gradient goes through the denoiser, which costs about three times the time, and the memory of training.

    Args:
      process: in which x0 is computed of the moved eps.
      distance: minus the log probability of the picture [B], of x0 (B, H, W, C); `to_image` makes one.
      scale: of the gradient, a number or one a sample [B].
    """

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        def total(z: Array) -> tuple[Array, Prediction]:
            prediction = denoiser(z, step, cond)
            return distance(prediction.x0).sum(), prediction

        gradient, prediction = jax.grad(total, has_aux=True)(z_t.astype(jnp.float32))
        return _moved(prediction, -gradient, z_t, step, process, scale)

    return denoise


def to_image(target: Array, transform: Callable[[Array], Array], compare: Compare | None = None) -> Callable:
    """The distance [B] of T(D(x0)) to a picture.

    Args:
      target: (B or 1, h, w, c) the picture.
      transform: of x0 into what is compared with it: decoding, and for example making it smaller. Differentiable.
      compare: distances of two batches of images, such as `networks.LPIPS`; None is half the squared difference, summed
        (LDM eq. 17).
    """
    return lambda x0: (compare or half_squared)(transform(x0), target)


def half_squared(a: Array, b: Array) -> Array:
    """|a - b|^2 / 2 of images (B, H, W, C), [B]."""
    return 0.5 * jnp.square(a - b).sum((1, 2, 3))


def _moved(
    prediction: Prediction, gradient: Array, z_t: Array, step: Step, process: Process, scale: float | Array
) -> Prediction:
    """The prediction with eps - scale * sigma_t * gradient; its variance stays."""
    scale = jnp.asarray(scale, jnp.float32)
    scale = scale.reshape(-1, *[1] * (z_t.ndim - 1)) if scale.ndim else scale
    eps = prediction.eps - scale * expand_to(process.sigma, step.t, z_t) * gradient
    return to_prediction(eps, "eps", z_t, step.t, process, prediction.variance)
