"""A classifier of z_t at any step, whose gradient guides sampling (Dhariwal & Nichol 2021; LDM appendix C)."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.config import Config
from pdm_jax.denoisers.steered import LogProb, of_label
from pdm_jax.diffusion import make_process
from pdm_jax.errors import UserError
from pdm_jax.networks import LatentClassifier, define
from pdm_jax.networks.functional import Definition
from pdm_jax.systems.base import Loss, System, check_arguments, check_dtype, check_steps, labels_of
from pdm_jax.systems.latent import make_space
from pdm_jax.systems.space import Space
from pdm_jax.types import Array, Cond, Params

_GROUP = "network"
_GIVEN = {"channels", "num_classes", "dtype", "rngs"}


def make_system(config: Config) -> System:
    """The system of a config: cross-entropy at uniform steps of its process, in pixels or latents.

    Raises:
      UserError: settings do not fit together.
    """
    model, process, space = config.model, make_process(config.diffusion), make_space(config)
    definition = make_network(config, space)
    _check(config, process.num_steps)

    def loss(params: Params, batch: Mapping[str, Array], keys: Array, step: Array) -> tuple[Array, dict[str, Array]]:
        x0, label = space.start(params, batch, keys), batch["label"]
        t = rng.randint_each(rng.stream_each(keys, "t"), config.loss.t_min, config.loss.t_max)
        eps = rng.normal_each(rng.stream_each(keys, "noise"), x0.shape[1:])
        logits = definition.bind(params[_GROUP])(process.q_sample(x0, t, eps), t)
        right = (logits.argmax(-1) == label).astype(jnp.float32)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], 1)[:, 0], {"accuracy": right}

    losses: dict[str, Loss] = {_GROUP: loss}
    return System(
        init=lambda key: {_GROUP: definition.init(key)},
        shapes={_GROUP: definition.shapes},
        losses=losses,
        denoiser=None,
        null=lambda params, cond: cond,
        has_null=False,
        guides="eps",
        dropouts=(),
        process=process,
        space=space,
        num_classes=model.num_classes,
        inputs=space.inputs | labels_of(model.num_classes),
        told={},
        cond=lambda params, told, shape: Cond(),
        frozen=space.frozen,
    )


def make_network(config: Config, space: Space) -> Definition:
    """The classifier of what a space samples; raises `UserError` for settings it has not."""
    model, channels = config.model, space.shape[2]
    check_dtype(model.dtype)
    settings = check_arguments(LatentClassifier, model.network, _GIVEN, "config.model.network")
    own = {"channels": channels, "num_classes": model.num_classes, "dtype": jnp.dtype(model.dtype)}
    return define(lambda rngs: LatentClassifier(rngs=rngs, **own, **settings))


def make_log_prob(config: Config, params: Params) -> LogProb:
    """What `denoisers.classifier_guided` asks, of a trained classifier; call it while tracing.

    Args:
      config: the classifier's own.
      params: of its system.
    """
    return of_label(make_network(config, make_space(config)).bind(params[_GROUP]))


def _check(config: Config, num_steps: int) -> None:
    check_steps(config.loss, num_steps)
    if config.model.patch_size != 1:
        raise UserError(f"config.model.patch_size is {config.model.patch_size}; a classifier reads whole images, use 1")
    if config.train.grid_every is not None or (config.eval.every is not None and config.eval.metric != "loss"):
        raise UserError("a classifier makes no pictures; leave out config.train.grid_every, and measure the 'loss'")
