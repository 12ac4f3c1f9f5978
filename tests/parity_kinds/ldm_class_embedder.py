"""latent-diffusion's embedder of classes."""

from __future__ import annotations

import jax.numpy as jnp

from pdm_jax.interop import ldm_conditioners
from pdm_jax.interop.ldm_conditioners_config import translate
from pdm_jax.networks import define
from pdm_jax.types import Array
from tests.parity_kinds._case import Case

INPUTS = ("class_label*",)


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs."""
    official = {name: case.meta[name] for name in ("embed_dim", "n_classes")}
    network, settings = translate("ClassEmbedder", official)
    definition = define(lambda rngs: network(**settings, rngs=rngs))
    embed = definition.bind(ldm_conditioners.load(case.weights, definition))
    return {name.replace("class_label", "embeddings"): embed(jnp.asarray(label)) for name, label in case.io.items()}
