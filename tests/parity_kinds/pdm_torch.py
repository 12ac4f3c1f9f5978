"""PDM's PyTorch program on the weights and inputs of `pdm_tf` cases: it differs in the norms' epsilon only."""

from __future__ import annotations

import re

import jax.numpy as jnp

from pdm_jax.errors import UserError
from pdm_jax.interop.pdm import TORCH_NORM_EPS
from pdm_jax.types import Array
from tests.parity_kinds._case import Case
from tests.parity_kinds.pdm_tf import build, forward, ordered_weights

INPUTS = ()


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs: the mean's channels, then the variance's, NCHW."""
    return {name: _output(case, *name.rsplit("/", 1)) for name in case.wanted}


def _output(case: Case, sister_name: str, variant: str) -> Array:
    sister = case.sister(f"pdm_tf/{sister_name}")
    network = build(sister.meta["config"], ordered_weights(sister), **_epsilons(variant))
    return jnp.moveaxis(jnp.concatenate(forward(network, sister.io), axis=-1), -1, 1)


def _epsilons(variant: str) -> dict[str, float]:
    """The norms' settings: as that program has them, or one epsilon for all."""
    if variant == "out_as_released":
        return {"norm_eps": TORCH_NORM_EPS, "plain_norm_eps": 1e-3}
    if found := re.fullmatch(r"out_all_groupnorm_eps_(\S+)", variant):
        return {"norm_eps": float(found[1]), "plain_norm_eps": float(found[1])}
    raise UserError(f"{variant!r} is no known output; expected out_as_released or out_all_groupnorm_eps_NUMBER")
