"""guided-diffusion's U-Net (`adm/unet_*`): the output with both orders of attention, and the code of time."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.interop import adm
from pdm_jax.interop.adm_config import translate
from pdm_jax.networks import define
from pdm_jax.networks.adm_unet import ADMUNet
from pdm_jax.ops.embeddings import cosine_code
from pdm_jax.types import Array, Cond
from tests.parity_kinds._case import Case

INPUTS = ("x", "t", "y")
_OTHER_ORDER = {"new": "legacy", "legacy": "new"}


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    settings, io = translate(case.meta["config"]), case.io
    other = settings | {"attention_order": _OTHER_ORDER[settings["attention_order"]]}
    return {
        "out": forward(settings, case.weights, io),
        "out_other_attention_order": forward(other, case.weights, io),
        "timestep_embedding": cosine_code(jnp.asarray(io["t"]), settings["width"]),
    }


def forward(settings: Mapping, weights: Mapping[str, np.ndarray], io: Mapping[str, np.ndarray]) -> Array:
    """Output and variance in a row (B, C or 2C, H, W) of x (B, C, H, W) at t with labels y."""
    definition = define(lambda rngs: ADMUNet(**settings, rngs=rngs))
    cond = Cond(label=jnp.asarray(io["y"]) if "y" in io else None)
    z_t, t = jnp.moveaxis(jnp.asarray(io["x"]), 1, -1), jnp.asarray(io["t"])
    output, variance = jax.jit(lambda params: definition.bind(params)(z_t, t, cond))(adm.load(weights, definition))
    both = output if variance is None else jnp.concatenate([output, variance], axis=-1)
    return jnp.moveaxis(both, -1, 1)
