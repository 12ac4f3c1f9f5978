"""The objective of diffusion, of pixels or latents, whatever the network is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.config import Config, LossConfig, ModelConfig
from pdm_jax.diffusion import Process, l1_loss, mse_loss, sqrt_snr_loss, vlb_loss
from pdm_jax.errors import UserError
from pdm_jax.systems.base import Loss, check_steps
from pdm_jax.systems.space import Space
from pdm_jax.types import Array, Cond, Denoiser, Params, Step

# (params, batch, one key a sample) -> what each sample is told, dropped at random
Condition = Callable[[Params, Mapping[str, Array], Array], Cond]
_KINDS = ("sqrt_snr", "mse", "l1")


def make_loss(
    config: LossConfig, process: Process, space: Space, condition: Condition, denoiser: Callable[[Params], Denoiser]
) -> Loss:
    """The loss of one sample a row: L_simple + vlb_weight * L_vlb (PDM appendix C), or the mean error of a target."""

    def loss(params: Params, batch: Mapping[str, Array], keys: Array, step: Array) -> tuple[Array, dict[str, Array]]:
        x0 = space.start(params, batch, keys)
        t = rng.randint_each(rng.stream_each(keys, "t"), config.t_min, config.t_max)
        eps = rng.normal_each(rng.stream_each(keys, "noise"), x0.shape[1:])
        z_t = process.q_sample(x0, t, eps)
        prediction = denoiser(params)(z_t, Step(t=t), condition(params, batch, keys))
        if config.kind == "sqrt_snr":
            simple = sqrt_snr_loss(prediction, x0, t, process)
        else:
            error = {"mse": mse_loss, "l1": l1_loss}[config.kind]
            simple = error(prediction, config.target, x0, eps, t, process)
        if not config.vlb_weight:
            return simple, {"simple": simple}
        vlb = vlb_loss(prediction, x0, z_t, t, process)
        return simple + config.vlb_weight * vlb, {"simple": simple, "vlb": vlb}

    return loss


def dropped_labels(batch: Mapping[str, Array], keys: Array, config: Config) -> Array:
    """The labels [B] of a batch, some of them replaced by the null label `num_classes`."""
    dropped = rng.bernoulli_each(rng.stream_each(keys, "label"), config.loss.label_dropout)
    return jnp.where(dropped, config.model.num_classes, batch["label"])


def check_objective(loss: LossConfig, model: ModelConfig, num_steps: int) -> None:
    """Raises a `UserError` unless `make_loss` knows this objective."""
    if loss.kind not in _KINDS:
        raise UserError(f"config.loss.kind is {loss.kind!r}; expected {', '.join(map(repr, _KINDS))}")
    if loss.target not in ("x0", "eps", "v") or (loss.kind == "sqrt_snr" and loss.target != "x0"):
        raise UserError(
            f"config.loss.target is {loss.target!r}; expected 'x0', or with kind 'mse' or 'l1' also 'eps' or 'v'"
        )
    if model.prediction not in ("x0", "eps", "v"):
        raise UserError(f"config.model.prediction is {model.prediction!r}; expected 'x0', 'eps' or 'v'")
    check_steps(loss, num_steps)
