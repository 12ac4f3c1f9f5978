"""The latent prior of Patch-DM: diffusion of semantic codes, from which sampling draws its own (section 4.3)."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.config import Config
from pdm_jax.denoisers.bind import as_denoiser
from pdm_jax.diffusion import make_process, v_from_x0_eps
from pdm_jax.errors import UserError
from pdm_jax.networks import CodeMLP, define
from pdm_jax.networks.functional import Definition
from pdm_jax.systems.base import System, check_arguments, check_dtype, check_steps
from pdm_jax.systems.space import Space
from pdm_jax.types import Array, Cond, Denoiser, Params

_GROUP = "network"
_GIVEN = {"code_dim", "dtype", "rngs"}


def make_system(config: Config) -> System:
    """The system of a config; codes (B, D) are images (B, 1, 1, D) to samplers, and nothing is a condition.

    Raises:
      UserError: settings do not fit together.
    """
    model, dim, process = config.model, config.codes.dim, make_process(config.diffusion)
    _check(config, process.num_steps)
    definition = make_network(config)

    def denoiser(params: Params) -> Denoiser:
        network = definition.bind(params[_GROUP])

        def over_images(z_t: Array, t: Array, cond: Cond) -> tuple[Array, None]:
            output, _ = network(z_t[:, 0, 0], t, cond)
            return output[:, None, None], None

        return as_denoiser(over_images, process, prediction=model.prediction)

    def loss(params: Params, batch: Mapping[str, Array], keys: Array, step: Array) -> tuple[Array, dict[str, Array]]:
        code = batch["code"]
        t = rng.randint_each(rng.stream_each(keys, "t"), config.loss.t_min, config.loss.t_max)
        eps = rng.normal_each(rng.stream_each(keys, "noise"), code.shape[1:])
        target = {"eps": eps, "x0": code, "v": v_from_x0_eps(code, eps, t, process)}[model.prediction]
        output, _ = definition.bind(params[_GROUP])(process.q_sample(code, t, eps), t, Cond())
        error = output - target
        return (jnp.abs(error) if config.loss.kind == "l1" else jnp.square(error)).mean(-1), {}

    return System(
        init=lambda key: {_GROUP: definition.init(key)},
        shapes={_GROUP: definition.shapes},
        losses={_GROUP: loss},
        denoiser=denoiser,
        null=lambda params, cond: cond,
        has_null=False,
        guides="eps" if model.prediction == "eps" else "x0",
        dropouts=(),
        process=process,
        space=Space((1, 1, dim)),
        num_classes=0,
        inputs={"code": jax.ShapeDtypeStruct((dim,), jnp.float32)},
        told={},
        cond=lambda params, told, shape: Cond(),
    )


def make_network(config: Config) -> Definition:
    """The network over codes; raises `UserError` for settings it has not."""
    settings = check_arguments(CodeMLP, config.model.network, _GIVEN, "config.model.network")
    return define(
        lambda rngs: CodeMLP(code_dim=config.codes.dim, dtype=jnp.dtype(config.model.dtype), rngs=rngs, **settings)
    )


def _check(config: Config, num_steps: int) -> None:
    model = config.model
    check_dtype(model.dtype)
    check_steps(config.loss, num_steps)
    if config.loss.kind not in ("l1", "mse"):
        raise UserError(f"config.loss.kind is {config.loss.kind!r}; expected 'l1' (the program's) or 'mse' of codes")
    if model.prediction not in ("eps", "x0", "v") or config.loss.target != model.prediction:
        raise UserError(
            f"config.model.prediction is {model.prediction!r} and config.loss.target {config.loss.target!r}; expected "
            "the same: 'eps', 'x0' or 'v'"
        )
    if config.train.grid_every is not None or (config.eval.every is not None and config.eval.metric != "loss"):
        raise UserError(
            "a prior makes codes and no pictures; leave out config.train.grid_every, and measure the 'loss'"
        )
