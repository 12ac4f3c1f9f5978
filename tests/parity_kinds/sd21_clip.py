"""Parts of CLIP and of Stable Diffusion 2.1's text encoder, as transformers computes them."""

from __future__ import annotations

import re

import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.interop.clip import define_clip, define_image_tower, define_text_tower, load
from pdm_jax.networks.clip import TowerOutput
from pdm_jax.networks.functional import Definition
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
    with_projection = "text_projection.weight" in case.weights
    tower = _bound(case, define_text_tower(case.meta["config"], with_projection=with_projection), "text")
    out = tower(jnp.asarray(case.io["input_ids"], jnp.int32))
    return _named(out, "text_embeds") | {"penultimate": tower.norm_out(out.hidden[-2])}


def _image(case: Case) -> dict[str, Array]:
    with_projection = "visual_projection.weight" in case.weights
    tower = _bound(case, define_image_tower(case.meta["config"], with_projection=with_projection), "image")
    return _named(tower(_pixels(case)), "image_embeds")


def _both(case: Case) -> dict[str, Array]:
    clip = _bound(case, define_clip(case.meta["config"]))
    text = clip.embed_texts(jnp.asarray(case.io["input_ids"], jnp.int32))
    image = clip.embed_images(_pixels(case))
    cosine = text @ image.T
    logits = jnp.exp(clip.logit_scale[...]) * cosine
    return {
        "text_embeds": text,
        "image_embeds": image,
        "cosine": cosine,
        "logits_per_text": logits,
        "logits_per_image": logits.T,
        "logit_scale": clip.logit_scale[...],
    }


def _bound(case: Case, definition: Definition, tower: str | None = None) -> nnx.Module:
    return definition.bind(load(case.weights, definition, tower))


def _pixels(case: Case) -> Array:
    return jnp.moveaxis(jnp.asarray(case.io["pixel_values"]), 1, -1)


def _named(out: TowerOutput, embedding: str) -> dict[str, Array]:
    hidden = {f"hidden_{i}": h for i, h in enumerate(out.hidden)}
    return hidden | {"last_hidden_state": out.last, "pooler_output": out.pooled, embedding: out.embedding}
