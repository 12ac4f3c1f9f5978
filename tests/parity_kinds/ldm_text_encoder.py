"""latent-diffusion's encoder of texts and layouts: its tokens, and the logits that the program does not use."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from pdm_jax.interop import ldm_conditioners
from pdm_jax.interop.ldm_conditioners_config import translate
from pdm_jax.networks import define
from pdm_jax.types import Array
from tests.parity_kinds._case import Case

INPUTS = ("token_ids*",)
_LOGITS = "logits_full_wrapper"


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs."""
    meta = case.meta
    official = {name: meta[name] for name in ("n_embed", "n_layer", "vocab_size", "max_seq_len")}
    network, settings = translate("BERTEmbedder", official)
    settings |= {"num_heads": meta["heads"], "head_dim": meta["dim_head"]}
    definition = define(lambda rngs: network(**settings, rngs=rngs))
    params = ldm_conditioners.load(case.weights, definition)
    encode = jax.jit(lambda tokens: definition.bind(params)(tokens))
    out = {name.replace("token_ids", "embeddings"): encode(jnp.asarray(tokens)) for name, tokens in case.io.items()}
    if _LOGITS in case.wanted:
        weight, bias = (case.weights[f"transformer.to_logits.{kind}"] for kind in ("weight", "bias"))
        out[_LOGITS] = out["embeddings"] @ weight.T + bias
    return out
