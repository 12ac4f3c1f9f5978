"""Latent diffusion (LDM): a U-Net over the latents of a frozen first stage, and networks that read what it is told."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pdm_jax.config import Config
from pdm_jax.denoisers.bind import bind
from pdm_jax.denoisers.patched import patched
from pdm_jax.diffusion import make_process
from pdm_jax.errors import UserError
from pdm_jax.networks import LDMUNet, define
from pdm_jax.networks.functional import Definition
from pdm_jax.systems.base import System, check_arguments, check_dtype
from pdm_jax.systems.conditions import Conditions, make_conditions
from pdm_jax.systems.diffusion_loss import check_objective, make_loss
from pdm_jax.systems.latent import make_space
from pdm_jax.systems.pdm import check_grid_of
from pdm_jax.types import Array, Cond, Denoiser, Params

NETWORK, UNET = "network", "unet"
_GIVEN = {"channels", "in_channels", "num_classes", "context_dim", "dtype", "rngs"}


def make_system(config: Config) -> System:
    """The system of a config; raises `UserError` where settings do not fit together.

    Parameters are `{"network": {"unet", and each kind of condition that a network reads}}`, trained and averaged
    together (the program averages the U-Net alone).
    """
    model, process, space = config.model, make_process(config.diffusion), make_space(config)
    conditions = make_conditions(config, space)
    check_grid_of(model, space.shape[:2])
    _check(config, process.num_steps)
    definitions = {UNET: make_network(config, conditions), **conditions.definitions}

    def init(key: Array) -> Params:
        keys = jax.random.split(key, len(definitions))
        return {NETWORK: {name: each.init(k) for (name, each), k in zip(definitions.items(), keys, strict=True)}}

    def denoiser(params: Params) -> Denoiser:
        unet = bind(definitions[UNET], params[NETWORK][UNET], process, prediction=model.prediction)
        return patched(unet, model.patch_size)

    def cond(params: Params, told, shape) -> Cond:
        return conditions.cond(params, told)

    return System(
        init=init,
        shapes={NETWORK: {name: each.shapes for name, each in definitions.items()}},
        losses={NETWORK: make_loss(config.loss, process, space, conditions.dropped, denoiser)},
        denoiser=denoiser,
        null=conditions.null,
        has_null=all(getattr(config.loss, name) > 0 for name in conditions.dropouts),
        guides="eps" if model.prediction == "eps" else "x0",
        dropouts=conditions.dropouts,
        process=process,
        space=space,
        num_classes=model.num_classes,
        inputs=space.inputs | conditions.inputs,
        told=conditions.told,
        cond=cond,
        frozen=space.frozen | conditions.frozen,
    )


def make_network(config: Config, conditions: Conditions) -> Definition:
    """The U-Net over patches of latents; raises `UserError` for settings it has not."""
    model = config.model
    if model.backbone != "ldm_unet":
        raise UserError(f"config.model.backbone is {model.backbone!r}; the system ldm has ldm_unet")
    check_dtype(model.dtype)
    settings = check_arguments(LDMUNet, model.network, _GIVEN, "config.model.network")
    area, channels = model.patch_size**2, conditions.space.shape[2]
    own = {
        "channels": area * channels,
        "in_channels": area * (channels + conditions.concat_channels),
        "num_classes": 0 if conditions.read == "class" else model.num_classes,
        "context_dim": conditions.context_dim,
        "dtype": jnp.dtype(model.dtype),
    }
    return define(lambda rngs: LDMUNet(rngs=rngs, **own, **settings))


def _check(config: Config, num_steps: int) -> None:
    check_objective(config.loss, config.model, num_steps)
    if config.loss.vlb_weight:
        raise UserError("config.loss.vlb_weight needs a learned variance, which ldm_unet has not; set it to 0")
