"""Patched diffusion of pixels (PDM): networks over a grid of patches, one or one a range of steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.config import Config, LossConfig, ModelConfig
from pdm_jax.denoisers.bind import bind
from pdm_jax.denoisers.patched import check_divisible, patched
from pdm_jax.diffusion import Process, from_adm, from_pdm, make_process, mse_loss, sqrt_snr_loss, vlb_loss
from pdm_jax.errors import UserError
from pdm_jax.networks import ADMUNet, PDMUNet, ViT, define
from pdm_jax.networks.functional import Definition
from pdm_jax.networks.pdm_unet import check_grid
from pdm_jax.ops.images import to_float
from pdm_jax.systems.base import Loss, System, check_arguments, check_dtype, check_steps, inputs_of
from pdm_jax.types import Array, Cond, Denoiser, Params, Step

_GROUP = "network"
_GIVEN = {"channels", "num_classes", "dtype", "rngs"}  # a network's settings that follow from the config's others
# Networks, and what turns the variance that they put out into the fraction of `Prediction.variance`.
_BACKBONES = {"pdm_unet": (PDMUNet, from_pdm), "adm_unet": (ADMUNet, from_adm), "vit": (ViT, from_pdm)}


def make_system(config: Config) -> System:
    """The system of a config without a split; raises `UserError` where sizes do not fit."""
    model, shape = config.model, (*config.data.size, config.data.channels)
    process = make_process(config.diffusion)
    definition = make_network(model, config.data.channels)
    check_divisible(shape[:2], model.patch_size)
    if "channel_mult" in model.network:
        check_grid(tuple(side // model.patch_size for side in shape[:2]), len(model.network["channel_mult"]))
    _check_loss(config.loss, model, process.num_steps)
    _, variance = _BACKBONES[model.backbone]

    def denoiser(params: Params) -> Denoiser:
        network = bind(definition, params[_GROUP], process, prediction=model.prediction, variance=variance)
        return patched(network, model.patch_size)

    def null(cond: Cond) -> Cond:
        return dataclasses.replace(cond, label=jnp.full_like(cond.label, model.num_classes))

    return System(
        init=lambda key: {_GROUP: definition.init(key)},
        shapes={_GROUP: definition.shapes},
        losses={_GROUP: _make_loss(config.loss, model.num_classes, process, denoiser)},
        denoiser=denoiser,
        null=null,
        has_null=config.loss.label_dropout > 0,
        guides="eps" if model.prediction == "eps" else "x0",
        dropouts=("label_dropout",) if model.num_classes else (),
        process=process,
        image_shape=shape,
        num_classes=model.num_classes,
        inputs=inputs_of(shape, model.num_classes),
        told={"label": jax.ShapeDtypeStruct((), jnp.int32)} if model.num_classes else {},
        cond=lambda told, shape: Cond(label=told.get("label")),
    )


def make_network(model: ModelConfig, colours: int) -> Definition:
    """The network of a model config over patches of images with `colours` channels.

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


def _make_loss(config: LossConfig, num_classes: int, process: Process, denoiser) -> Loss:
    """The loss of one sample a row: L_simple + vlb_weight * L_vlb (PDM appendix C), or a plain MSE."""

    def loss(params: Params, batch: Mapping[str, Array], keys: Array) -> tuple[Array, dict[str, Array]]:
        x0 = to_float(batch["image"])
        t = rng.randint_each(rng.stream_each(keys, "t"), config.t_min, config.t_max)
        eps = rng.normal_each(rng.stream_each(keys, "noise"), x0.shape[1:])
        z_t = process.q_sample(x0, t, eps)
        cond = Cond()
        if num_classes > 0:
            dropped = rng.bernoulli_each(rng.stream_each(keys, "label"), config.label_dropout)
            cond = Cond(label=jnp.where(dropped, num_classes, batch["label"]))
        prediction = denoiser(params)(z_t, Step(t=t), cond)
        if config.kind == "mse":
            simple = mse_loss(prediction, config.target, x0, eps, t, process)
        else:
            simple = sqrt_snr_loss(prediction, x0, t, process)
        if not config.vlb_weight:
            return simple, {"simple": simple}
        vlb = vlb_loss(prediction, x0, z_t, t, process)
        return simple + config.vlb_weight * vlb, {"simple": simple, "vlb": vlb}

    return loss


def _check_loss(loss: LossConfig, model: ModelConfig, num_steps: int) -> None:
    if loss.kind not in ("sqrt_snr", "mse"):
        raise UserError(f"config.loss.kind is {loss.kind!r}; expected 'sqrt_snr' or 'mse'")
    if loss.target not in ("x0", "eps", "v") or (loss.kind == "sqrt_snr" and loss.target != "x0"):
        raise UserError(f"config.loss.target is {loss.target!r}; expected 'x0', or with kind 'mse' also 'eps' or 'v'")
    if model.prediction not in ("x0", "eps", "v"):
        raise UserError(f"config.model.prediction is {model.prediction!r}; expected 'x0', 'eps' or 'v'")
    check_steps(loss, num_steps)
    if loss.label_dropout and model.network.get("has_null") is False:
        raise UserError("config.loss.label_dropout needs a null label, which config.model.network.has_null=False lacks")
    if loss.vlb_weight and not model.network.get("learn_variance", True):
        raise UserError("config.loss.vlb_weight needs config.model.network.learn_variance; set one of them to match")
