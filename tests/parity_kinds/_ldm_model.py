"""A whole model of latent diffusion out of a case of `ldm_pipeline`: its system, its weights, what it is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.config import Config, read
from pdm_jax.interop import ldm
from pdm_jax.interop.ldm_config import translate
from pdm_jax.systems import System, make_system
from pdm_jax.systems.conditions import NULL_TOKENS, Conditions, make_conditions
from pdm_jax.systems.latent import FIRST_STAGE, SCALE
from pdm_jax.systems.ldm import NETWORK, make_network
from pdm_jax.types import Array, Params
from tests.parity_kinds._case import Case

_TOLD = {"class": "label", "text": "tokens", "layout": "layout", "semantic": "map", "superres": "low"}


@dataclasses.dataclass(frozen=True)
class Model:
    """The system and what goes into it, images in NHWC."""

    system: System
    networks: ldm.Networks
    params: Params  # with the frozen groups
    ema: Params
    images: Array  # (B, H, W, C) in [-1, 1]
    told: Mapping[str, Array]
    null: Mapping[str, Array]  # the same of nothing; {} in a case without

    def batch(self) -> dict[str, Array]:
        """What a step of training takes."""
        return {"image": as_pixels(self.images), **self.told}


def open_model(case: Case) -> Model:
    """The model of a case, whatever it is conditioned on.

    What lies beside z_t and is neither a small image nor a map goes into the network as it is: as a map without
    classes, which is not halved.
    """
    groups = translate(case.meta["params"], has_null="uncond_in" in case.io)
    is_plain = _is_plain(case, groups)
    if is_plain:
        _add_plain(case, groups["condition"])
    config = _config(groups)
    system = make_system(config)
    conditions = make_conditions(config, system.space)
    networks = ldm.Networks(make_network(config, conditions), conditions.definitions, system.space.definition)
    ldm.check_schedule(case.weights, system.process)
    weights = ldm.load(case.weights, networks)
    scale = config.latent.scale if weights.scale is None else weights.scale
    frozen = {FIRST_STAGE: weights.first_stage, SCALE: np.float32(scale)}
    told, null = _told(case, conditions, "cond_in", is_plain), _told(case, conditions, "uncond_in", is_plain)
    if is_plain:
        told["map"] = _beside(case, system, frozen)
    if NULL_TOKENS in system.frozen:
        frozen[NULL_TOKENS] = (null or told)["tokens"][0]
    # Sampling is told just this, of these shapes.
    shapes = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in told.items()}
    system = dataclasses.replace(system, told=shapes)
    params, ema = ({NETWORK: own, **frozen} for own in (weights.params, weights.ema))
    return Model(system, networks, params, ema, jnp.asarray(case.io["image_nhwc"]), told, null)


def as_pixels(images: Array) -> Array:
    """Images in [-1, 1] in the range of pixels, and not rounded to them."""
    return (images + 1) * 127.5


def to_nhwc(x: np.ndarray) -> Array:
    """Batches of images as ours; other arrays as they are."""
    return jnp.moveaxis(jnp.asarray(x), -3, -1) if x.ndim > 3 else jnp.asarray(x)


def _config(groups: Mapping[str, Any]) -> Config:
    """The config; its model learned to do without what it is told, as guidance wants."""
    loss = groups["loss"] | {"label_dropout": 0.1, "context_dropout": 0.1}
    data = groups["data"] | {"source": "memory", "batch_size": 8}
    return read(Config, {**groups, "loss": loss, "data": data, "optimizer": {}})


def _is_plain(case: Case, groups: Mapping[str, Any]) -> bool:
    """Whether something lies beside z_t that none of our kinds makes."""
    kinds, beside = groups["condition"]["kinds"], _channels_beside(case)
    return beside > 0 and kinds != ("semantic",) and (kinds != ("superres",) or beside != groups["data"]["channels"])


def _channels_beside(case: Case) -> int:
    unet = case.meta["params"]["unet_config"]["params"]
    return unet["in_channels"] - unet["out_channels"]


def _add_plain(case: Case, condition: dict[str, Any]) -> None:
    settings = {"in_channels": _channels_beside(case), "out_channels": None, "num_halvings": 0}
    condition["kinds"] = (*(kind for kind in condition["kinds"] if kind not in ("superres", "inpaint")), "semantic")
    condition["networks"] = {**condition.get("networks", {}), "semantic": settings}


def _told(case: Case, conditions: Conditions, name: str, is_plain: bool) -> dict[str, Array]:
    """What `cond_in` or `uncond_in` says to the network that reads it."""
    kind = conditions.read or next((kind for kind in conditions.kinds if not is_plain), None)
    kind = "class" if kind is None and conditions.config.model.num_classes else kind
    if kind is None or name not in case.io:
        return {}
    given = to_nhwc(case.io[name])
    return {_TOLD[kind]: as_pixels(given) if kind == "superres" else given}


def _beside(case: Case, system: System, params: Params) -> Array:
    """What lies beside z_t: an array of that name, else what the condition is; images are encoded."""
    name = next((name for name in case.io if "concat" in name), "cond_in")
    given = to_nhwc(case.io[name])
    return system.space.encode(params, given) if given.shape[1:3] == system.space.picture[:2] else given
