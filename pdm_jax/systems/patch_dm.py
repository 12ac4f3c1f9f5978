"""Patch-DM: a network over patches whose features are collaged, told where they lie and what the image is of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pdm_jax.config import CodeConfig, Config, ModelConfig
from pdm_jax.denoisers.bind import as_denoiser
from pdm_jax.denoisers.collaged import collaged
from pdm_jax.denoisers.pixel_patches import independent
from pdm_jax.diffusion import make_process
from pdm_jax.errors import UserError
from pdm_jax.networks import ADMUNet, CodeEncoder, PatchUNet, PDMUNet, define
from pdm_jax.networks.functional import Definition
from pdm_jax.ops import positions
from pdm_jax.ops.collage import check_patches
from pdm_jax.ops.images import to_float
from pdm_jax.systems.base import System, Table, Told, check_arguments, check_dtype, check_steps, labels_of
from pdm_jax.systems.latent import make_space
from pdm_jax.systems.patch_loss import KINDS, make_loss
from pdm_jax.systems.space import Space
from pdm_jax.types import Array, Cond, Denoiser, Params

NETWORK, CODES = "network", "codes"  # groups of parameters
_GIVEN = {"channels", "num_classes", "code_dim", "learn_variance", "dtype", "rngs"}
_BACKBONES = {"patch_unet": PatchUNet, "adm_unet": ADMUNet, "pdm_unet": PDMUNet}
_TABLE_STD = 0.5  # of a random table; CLIP's image features have about that


def make_system(config: Config) -> System:
    """The system of a config; raises `UserError` where settings do not fit together.

    Parameters are `{"network": {"unet", maybe "encoder"}}`, and with a table of codes `{"codes": {"table"}}`.
    """
    model, codes = config.model, config.codes
    check_dtype(model.dtype)
    space, process = make_space(config), make_process(config.diffusion)
    definitions = {"unet": make_network(model, codes, space.shape[2])}
    if codes.kind == "encoder":
        definitions["encoder"] = make_encoder(codes, model.dtype, config.data.channels)
    _check(config, space)

    def init(key: Array) -> Params:
        keys = jax.random.split(key, 3)
        network = {name: each.init(k) for (name, each), k in zip(definitions.items(), keys, strict=False)}
        return {NETWORK: network} | _table(codes, keys[-1])

    def denoiser(params: Params) -> Denoiser:
        unet = definitions["unet"].bind(params[NETWORK]["unet"])
        if config.loss.kind == "plain":  # it never saw a collage
            return independent(as_denoiser(unet, process, prediction=model.prediction), model.patch_size)
        network = collaged(unet, model.patch_size, max_patches=config.sample.max_patches)
        return as_denoiser(network, process, prediction=model.prediction)

    def encode(params: Params, batch: Mapping[str, Array]) -> Array:
        if codes.kind == "table":
            return params[CODES]["table"][batch["index"]]
        return definitions["encoder"].bind(params[NETWORK]["encoder"])(to_float(batch["image"]))

    return System(
        init=init,
        shapes=jax.eval_shape(init, jax.random.key(0)),
        losses={NETWORK: make_loss(config, process, space, definitions, encode)},
        denoiser=denoiser,
        null=lambda params, cond: null(cond, model.num_classes),
        has_null=all(getattr(config.loss, name) > 0 for name in _dropouts(config)),
        guides="eps" if model.prediction == "eps" else "x0",
        dropouts=_dropouts(config),
        process=process,
        space=space,
        num_classes=model.num_classes,
        inputs=space.inputs | labels_of(model.num_classes) | _index(codes),
        told=_told(codes, model.num_classes),
        cond=lambda params, told, shape: make_cond(told, shape, model.patch_size),
        codes=None if codes.kind == "none" else encode,
        table=Table(CODES, lazy=codes.optimizer == "rows") if codes.kind == "table" else None,
        frozen=space.frozen,
    )


def make_network(model: ModelConfig, codes: CodeConfig, colours: int) -> Definition:
    """The network over patches; raises `UserError` where it does not exist or has not these settings."""
    if model.backbone not in _BACKBONES:
        raise UserError(f"config.model.backbone is {model.backbone!r}; the system patch_dm has {', '.join(_BACKBONES)}")
    backbone = _BACKBONES[model.backbone]
    settings = check_arguments(backbone, model.network, _GIVEN, "config.model.network")
    own: dict[str, Any] = {"channels": colours, "dtype": jnp.dtype(model.dtype)}
    if backbone is PatchUNet:
        own["code_dim"] = 0 if codes.kind == "none" else codes.dim
        if model.num_classes:
            raise UserError(
                "the network patch_unet takes no labels; set config.model.num_classes to 0, or use adm_unet"
            )
    else:
        own |= {"num_classes": model.num_classes, "learn_variance": False}
        if codes.kind != "none":
            raise UserError(f"the network {model.backbone} takes no codes; use patch_unet, or config.codes.kind 'none'")
    return define(lambda rngs: backbone(rngs=rngs, **own, **settings))


def make_encoder(codes: CodeConfig, dtype: str, colours: int) -> Definition:
    """The network that reads a code from an image; raises `UserError` for settings it has not."""
    settings = check_arguments(CodeEncoder, codes.network or {}, _GIVEN, "config.codes.network")
    own = {"channels": colours, "code_dim": codes.dim, "dtype": jnp.dtype(dtype)}
    return define(lambda rngs: CodeEncoder(rngs=rngs, **own, **settings))


def make_cond(told: Told, shape: tuple[int, ...], patch_size: int) -> Cond:
    """The condition of images (B, H, W, C); positions are those of the trained grid unless they are told."""
    position = told.get("position")
    if position is None:
        grid = positions.grid(shape[1] // patch_size, shape[2] // patch_size)
        position = jnp.broadcast_to(grid[None], (shape[0], *grid.shape))
    return Cond(label=told.get("label"), code=told.get("code"), position=position)


def null(cond: Cond, num_classes: int) -> Cond:
    """The condition without code, positions and label; the program, too, multiplies the first two by 0."""
    return dataclasses.replace(
        cond,
        code=None if cond.code is None else jnp.zeros_like(cond.code),
        position=cond.position * jnp.array([1, 1, 0], cond.position.dtype)[None, None, None],
        label=None if cond.label is None else jnp.full_like(cond.label, num_classes),
    )


def _table(codes: CodeConfig, key: Array) -> Params:
    if codes.kind != "table":
        return {}
    if codes.num is None:
        raise UserError(
            "config.codes.num is not set: the table of codes needs a row for each image; set it to their number"
        )
    return {CODES: {"table": _TABLE_STD * jax.random.normal(key, (codes.num, codes.dim))}}


def _told(codes: CodeConfig, num_classes: int) -> dict[str, jax.ShapeDtypeStruct]:
    code = {"code": jax.ShapeDtypeStruct((codes.dim,), jnp.float32)} if codes.kind != "none" else {}
    return labels_of(num_classes) | code


def _index(codes: CodeConfig) -> dict[str, jax.ShapeDtypeStruct]:
    return {"index": jax.ShapeDtypeStruct((), jnp.int32)} if codes.kind == "table" else {}


def _dropouts(config: Config) -> tuple[str, ...]:
    """What drops each thing that the network is told."""
    used = {
        "code_dropout": config.codes.kind != "none",
        "position_dropout": config.model.backbone == "patch_unet",
        "label_dropout": config.model.num_classes > 0,
    }
    return tuple(name for name, is_used in used.items() if is_used)


def _check(config: Config, space: Space) -> None:
    loss, model, codes = config.loss, config.model, config.codes
    if not isinstance(model.patch_size, int):
        raise UserError(f"config.model.patch_size is {model.patch_size}; Patch-DM has one size")
    check_patches(space.shape[:2], model.patch_size, len(model.network["channel_mult"]))
    reads_images = codes.kind == "encoder" or (codes.kind == "table" and codes.init != "random")
    if reads_images and "image" not in space.inputs:
        raise UserError("codes are read from images, which data of latents lack; use codes.init='random', or none")
    allowed = {
        "model.prediction": (model.prediction, ("eps", "x0", "v")),
        "loss.kind": (loss.kind, KINDS),
        "loss.target": (loss.target, (model.prediction,)),
        "loss.vlb_weight": (loss.vlb_weight, (0.0,)),
        "codes.kind": (codes.kind, ("none", "table", "encoder")),
        "codes.optimizer": (codes.optimizer, ("dense", "rows")),
    }
    for name, (value, wanted) in allowed.items():
        if value not in wanted:
            raise UserError(f"config.{name} is {value!r}; expected {' or '.join(map(repr, wanted))} in patch_dm")
    check_steps(loss, make_process(config.diffusion).num_steps)
