"""latent-diffusion's U-Net (`ldm_unet_*`), whatever it is conditioned on: its output and what lies between."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp

from pdm_jax.interop import ldm_unet
from pdm_jax.interop.ldm_unet_config import translate
from pdm_jax.networks import LDMUNet, define
from pdm_jax.ops.embeddings import cosine_code
from pdm_jax.types import Array, Cond, Params
from tests.parity_kinds._case import Case

INPUTS = ("x", "timesteps", "context", "c_crossattn", "c_concat", "y")


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    settings, io = translate(case.meta["unet_config"]), {name: jnp.asarray(a) for name, a in case.io.items()}
    definition = define(lambda rngs: LDMUNet(**settings, rngs=rngs))
    z_t, t, cond = jnp.moveaxis(io["x"], 1, -1), io["timesteps"], _cond(io)
    code = cosine_code(t, settings["width"])
    after = [int(found[1]) for name in case.wanted if (found := re.fullmatch(r"after_input_block_(\d+)", name))]

    @jax.jit
    def denoise(params: Params) -> dict[str, Array]:
        network = definition.bind(params)
        features = network.encode(z_t, t, cond)
        maps = {f"after_input_block_{i}": features.skips[i] for i in after}
        maps |= {"after_middle_block": features.mid, "out": network.decode(features, t, cond)[0]}
        time = network.time_out(jax.nn.swish(network.time_in(code)))
        return {"time_embed": time} | {name: jnp.moveaxis(h, -1, 1) for name, h in maps.items()}

    return denoise(ldm_unet.load(case.weights, definition)) | {"timestep_embedding": code}


def _cond(io: dict[str, Array]) -> Cond:
    context = io.get("context", io.get("c_crossattn"))
    concat = jnp.moveaxis(io["c_concat"], 1, -1) if "c_concat" in io else None
    return Cond(label=io.get("y"), context=context, concat=concat)
