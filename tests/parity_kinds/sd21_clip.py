"""Parts of CLIP and of Stable Diffusion 2.1's text encoder, as transformers computes them."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp

from pdm_jax.errors import UserError
from pdm_jax.interop.clip import Loaded, build_clip, build_image_tower, build_text_tower
from pdm_jax.networks.clip import TowerOutput
from pdm_jax.types import Array
from tests.parity_kinds._case import Case

INPUTS = ("input_ids", "pixel_values")


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, for the model that its meta names."""
    found = re.search(r"\bCLIP(Text|Vision|)Model(WithProjection)?\b", case.meta["model"])
    if found is None:
        raise UserError(f"{case.folder} is of {case.meta['model']!r}; sd21_clip runs CLIP text and image models only")
    return {"Text": _text, "Vision": _image, "": _both}[found[1]](case)


def _text(case: Case) -> dict[str, Array]:
    tower = build_text_tower(case.meta["config"], case.weights)
    out = _apply(tower, jnp.asarray(case.io["input_ids"], jnp.int32))
    penultimate = tower.definition.bind(tower.params).norm_out(out.hidden[-2])
    return _named(out, "text_embeds") | {"penultimate": penultimate}


def _image(case: Case) -> dict[str, Array]:
    return _named(_apply(build_image_tower(case.meta["config"], case.weights), _pixels(case)), "image_embeds")


def _both(case: Case) -> dict[str, Array]:
    clip = build_clip(case.meta["config"], case.weights)
    network = clip.definition.bind(clip.params)
    text = network.embed_texts(jnp.asarray(case.io["input_ids"], jnp.int32))
    image = network.embed_images(_pixels(case))
    cosine = text @ image.T
    logits = jnp.exp(network.logit_scale) * cosine
    return {
        "text_embeds": text,
        "image_embeds": image,
        "cosine": cosine,
        "logits_per_text": logits,
        "logits_per_image": logits.T,
        "logit_scale": network.logit_scale[...],
    }


def _apply(tower: Loaded, inputs: Array) -> TowerOutput:
    return jax.jit(lambda params, inputs: tower.definition.bind(params)(inputs))(tower.params, inputs)


def _pixels(case: Case) -> Array:
    return jnp.moveaxis(jnp.asarray(case.io["pixel_values"]), 1, -1)


def _named(out: TowerOutput, embedding: str) -> dict[str, Array]:
    hidden = {f"hidden_{i}": h for i, h in enumerate(out.hidden)}
    return hidden | {"last_hidden_state": out.last, "pooler_output": out.pooled, embedding: out.embedding}
