"""Patched diffusion (PDM): networks over a grid of patches of pixels or latents, one or one a range of steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp

from pdm_jax.config import Config, LossConfig, ModelConfig
from pdm_jax.denoisers.bind import bind
from pdm_jax.denoisers.patched import check_divisible, patched
from pdm_jax.diffusion import from_adm, from_pdm, make_process
from pdm_jax.errors import UserError
from pdm_jax.networks import ADMUNet, PDMUNet, ViT, define
from pdm_jax.networks.functional import Definition
from pdm_jax.networks.pdm_unet import check_grid
from pdm_jax.systems.base import System, check_arguments, check_dtype, labels_of
from pdm_jax.systems.diffusion_loss import check_objective, dropped_labels, make_loss
from pdm_jax.systems.latent import make_space
from pdm_jax.types import Array, Cond, Denoiser, Params

_GROUP = "network"
_GIVEN = {"channels", "num_classes", "dtype", "rngs"}  # a network's settings that follow from the config's others
# Networks, and what turns the variance that they put out into the fraction of `Prediction.variance`.
_BACKBONES = {"pdm_unet": (PDMUNet, from_pdm), "adm_unet": (ADMUNet, from_adm), "vit": (ViT, from_pdm)}


def make_system(config: Config) -> System:
    """The system of a config without a split; raises `UserError` where sizes do not fit."""
    model, space, process = config.model, make_space(config), make_process(config.diffusion)
    definition = make_network(model, space.shape[2])
    check_grid_of(model, space.shape[:2])
    _check_loss(config.loss, model, process.num_steps)
    _, variance = _BACKBONES[model.backbone]

    def denoiser(params: Params) -> Denoiser:
        network = bind(definition, params[_GROUP], process, prediction=model.prediction, variance=variance)
        return patched(network, model.patch_size)

    def condition(params: Params, batch: Mapping[str, Array], keys: Array) -> Cond:
        return Cond(label=dropped_labels(batch, keys, config) if model.num_classes else None)

    def null(params: Params, cond: Cond) -> Cond:
        return dataclasses.replace(cond, label=jnp.full_like(cond.label, model.num_classes))

    return System(
        init=lambda key: {_GROUP: definition.init(key)},
        shapes={_GROUP: definition.shapes},
        losses={_GROUP: make_loss(config.loss, process, space, condition, denoiser)},
        denoiser=denoiser,
        null=null,
        has_null=config.loss.label_dropout > 0,
        guides="eps" if model.prediction == "eps" else "x0",
        dropouts=("label_dropout",) if model.num_classes else (),
        process=process,
        space=space,
        num_classes=model.num_classes,
        inputs=space.inputs | labels_of(model.num_classes),
        told=labels_of(model.num_classes),
        cond=lambda params, told, shape: Cond(label=told.get("label")),
        frozen=space.frozen,
    )


def make_network(model: ModelConfig, colours: int) -> Definition:
    """The network of a model config over patches of what has `colours` channels.

    Raises:
      UserError: there is no such backbone, or it has not these settings.
    """
    if model.backbone not in _BACKBONES:
        raise UserError(f"config.model.backbone is {model.backbone!r}; expected one of {', '.join(_BACKBONES)}")
    backbone, _ = _BACKBONES[model.backbone]
    settings = check_arguments(backbone, model.network, _GIVEN, "config.model.network")
    check_dtype(model.dtype)
    channels = model.patch_size**2 * colours
    return define(
        lambda rngs: backbone(
            channels=channels, num_classes=model.num_classes, dtype=jnp.dtype(model.dtype), rngs=rngs, **settings
        )
    )


def check_grid_of(model: ModelConfig, size: tuple[int, int]) -> None:
    """Raises a `UserError` unless patches tile what has this size (h, w), and the network's levels halve their grid."""
    check_divisible(size, model.patch_size)
    if "channel_mult" in model.network:
        check_grid(tuple(side // model.patch_size for side in size), len(model.network["channel_mult"]))


def _check_loss(loss: LossConfig, model: ModelConfig, num_steps: int) -> None:
    check_objective(loss, model, num_steps)
    if loss.label_dropout and model.network.get("has_null") is False:
        raise UserError("config.loss.label_dropout needs a null label, which config.model.network.has_null=False lacks")
    if loss.vlb_weight and not model.network.get("learn_variance", True):
        raise UserError("config.loss.vlb_weight needs config.model.network.learn_variance; set one of them to match")
