"""latent-diffusion's rescaler of maps, of class numbers and of any channels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pdm_jax.interop import ldm_conditioners
from pdm_jax.interop.ldm_conditioners_config import translate
from pdm_jax.networks import define
from pdm_jax.types import Array
from tests.parity_kinds._case import Case

INPUTS = ("labels", "dense*")


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    names = ("n_stages", "in_channels", "out_channels", "bias", "method", "multiplier")
    network, settings = translate("SpatialRescaler", {name: case.meta[name] for name in names})
    definition = define(lambda rngs: network(**settings, rngs=rngs))
    params = ldm_conditioners.load(case.weights, definition)
    rescale = jax.jit(lambda x: jnp.moveaxis(definition.bind(params)(x), -1, 1))
    out = {}
    for name, array in case.io.items():
        if name == "labels":
            codes = jax.nn.one_hot(array, settings["in_channels"], axis=1)
            out |= {"one_hot": codes, "out_one_hot": rescale(jnp.asarray(array))}
        else:
            out[f"out_{name}"] = rescale(jnp.moveaxis(jnp.asarray(array), 1, -1))
    return out
