"""Patch-DM's semantic encoder (`enc/*`) and latent network (`latent/*`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pdm_jax.interop import patch_dm
from pdm_jax.interop.patch_dm_config import translate
from pdm_jax.networks import CodeEncoder, CodeMLP, define
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Array, Cond, Params
from tests.parity_kinds._case import Case

INPUTS = ("enc/image", "latent/z", "latent/t")


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    io = {name: jnp.asarray(array) for name, array in case.io.items()}
    out = {}
    if "enc/image" in io:
        out |= _encoder(case, io)
    if "latent/z" in io:
        out |= _latent(case, io)
    return out


def _encoder(case: Case, io: Mapping[str, Array]) -> dict[str, Array]:
    official: dict[str, Any] = case.meta["encoder"]
    settings = translate("encoder", official | {"image_size": official["nominal_image_size"]})
    definition = define(lambda rngs: CodeEncoder(**settings, rngs=rngs))
    params = patch_dm.load(case.weights, definition, "encoder")

    @jax.jit
    def encode(params: Params, image: Array) -> dict[str, Array]:
        encoder = definition.bind(params)
        first, *features = (jnp.moveaxis(h, -1, 1) for h in encoder.features(image))
        stages = {f"enc/after_input_block_{i + 1}": h for i, h in enumerate(features[:-1])}
        last = {"enc/after_last_input_block": features[-2], "enc/feature_2d": features[-1]}
        return stages | last | {"enc/after_input_block_0": first, "enc/out": encoder(image)}

    return encode(params, jnp.moveaxis(io["enc/image"], 1, -1))


def _latent(case: Case, io: Mapping[str, Array]) -> dict[str, Array]:
    definition, params = latent_network(case)

    @jax.jit
    def denoise(params: Params, z: Array, t: Array) -> dict[str, Array]:
        network = definition.bind(params)
        layers = {f"latent/after_layer_{i}": h for i, h in enumerate(network.features(z, t))}
        return layers | {"latent/time_cond": network.time(t), "latent/out": network(z, t, Cond())[0]}

    return denoise(params, io["latent/z"], io["latent/t"])


def latent_network(case: Case) -> tuple[Definition, Params]:
    """The latent network of a case and its weights."""
    settings = translate("latent", case.meta["latent"])
    definition = define(lambda rngs: CodeMLP(**settings, rngs=rngs))
    return definition, patch_dm.load(case.weights, definition, "latent")
