"""latent-diffusion's conditioners: names and sizes as released, exact round trips, errors that name things."""

import json
from pathlib import Path

import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.interop import ldm_conditioners
from pdm_jax.interop.ldm_conditioners_config import translate
from pdm_jax.networks import ClassEmbedder, SpatialRescaler, TokenEncoder, count_params, define
from tests.evaluation.random_weights import make_weights

KEYS = Path(__file__).parents[3] / "shared/reference/keys"
RELEASED = [f"ldm_unet_{name}" for name in ("cin256", "cin256-v2", "text2img256", "txt2img-1p4B")]
RELEASED += ["ldm_unet_layout2img-openimages256", "ldm_unet_semantic_synthesis256"]
SMALL = {
    "ldm.modules.encoders.modules.BERTEmbedder": {"n_embed": 8, "n_layer": 2, "vocab_size": 7, "max_seq_len": 5},
    "ClassEmbedder": {"embed_dim": 4, "n_classes": 3, "key": "class_label"},
    "SpatialRescaler": {"n_stages": 2, "in_channels": 5, "out_channels": 3, "bias": True},
}


def definition_of(target, official):
    network, settings = translate(target, official)
    return define(lambda rngs: network(**settings, rngs=rngs))


def error_of(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(not KEYS.is_dir(), reason="the full reference is not beside the checkout")
@pytest.mark.parametrize("name", RELEASED)
def test_released_names_and_shapes(name):
    released = json.loads((KEYS / f"{name}.json").read_text())
    config = released["other_params"]["cond_stage_config"]
    definition = definition_of(config["target"], config["params"])
    shapes = ldm_conditioners.official_shapes(definition)
    expected, unused = [], 0
    for key, shape in released["cond_stage_keys"]:
        if "to_logits" in key:
            unused += int(np.prod(shape))
        else:
            expected.append([key, shape])
    assert [[key, list(shape)] for key, shape in shapes.items()] == expected
    assert count_params(definition.shapes) + unused == released["params_cond_stage"]


@pytest.mark.parametrize("target", SMALL)
def test_round_trip_is_exact(target):
    definition = definition_of(target, SMALL[target])
    tensors = make_weights(ldm_conditioners.official_shapes(definition))
    back = ldm_conditioners.to_official(ldm_conditioners.load(tensors, definition), definition)
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)


def test_logits_are_passed_over_and_nothing_else():
    target = "BERTEmbedder"
    definition = definition_of(target, SMALL[f"ldm.modules.encoders.modules.{target}"])
    tensors = {name: np.ones(shape) for name, shape in ldm_conditioners.official_shapes(definition).items()}
    logits = {f"transformer.to_logits.{kind}": np.zeros(7) for kind in ("weight", "bias")}
    assert set(ldm_conditioners.load(tensors | logits, definition)["layers"]) == {0, 1}
    del tensors["transformer.attn_layers.layers.3.1.net.2.bias"]
    message = error_of(ldm_conditioners.load, tensors | {"transformer.more": np.zeros(1)}, definition)
    assert "1 missing: transformer.attn_layers.layers.3.1.net.2.bias (wanted (8,))" in message
    assert "1 surplus: transformer.more (got (1,))" in message


def test_translation():
    text = {"n_embed": 8, "n_layer": 2}
    assert translate("BERTEmbedder", text) == (
        TokenEncoder,
        {"vocab_size": 30522, "max_length": 77, "width": 8, "num_layers": 2},
    )
    assert translate("a.b.ClassEmbedder", {"embed_dim": 4}) == (
        ClassEmbedder,
        {"num_classes": 1000, "has_null": False, "width": 4},
    )
    assert translate("SpatialRescaler", {"out_channels": 2}) == (
        SpatialRescaler,
        {"in_channels": 3, "out_channels": 2, "num_halvings": 1, "use_bias": False},
    )


def test_translation_errors():
    assert "by ldm.Unheard; known are BERTEmbedder" in error_of(translate, "ldm.Unheard", {})
    assert "of TransformerEmbedder lacks vocab_size" in error_of(
        translate, "TransformerEmbedder", {"n_embed": 1, "n_layer": 1}
    )
    assert "unknown keys heads" in error_of(translate, "ClassEmbedder", {"embed_dim": 4, "heads": 8})
    assert "by 0.5 and nearest; only" in error_of(translate, "SpatialRescaler", {"method": "nearest"})
