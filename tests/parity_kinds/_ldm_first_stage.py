"""What the cases with a first stage of latent diffusion share: its network and weights, and the layout of arrays."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from pdm_jax.interop import ldm_autoencoder
from pdm_jax.interop.ldm_autoencoder_config import translate
from pdm_jax.networks import Autoencoder, define
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Array, Params
from tests.parity_kinds._case import Case


def first_stage(case: Case) -> tuple[Definition, Params]:
    """The first stage of a case and its weights."""
    meta = case.meta
    settings = translate(meta["ddconfig"], meta["embed_dim"], meta.get("n_embed"))
    definition = define(lambda rngs: Autoencoder(**settings, rngs=rngs))
    return definition, ldm_autoencoder.load(case.weights, definition)


def to_nhwc(arrays: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Inputs as ours; all but batches of images keep their axes."""
    return {name: jnp.moveaxis(x, 1, -1) if np.ndim(x) == 4 else jnp.asarray(x) for name, x in arrays.items()}


def to_nchw(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs as they are there."""
    return {name: jnp.moveaxis(x, -1, 1) if jnp.ndim(x) == 4 else x for name, x in arrays.items()}
