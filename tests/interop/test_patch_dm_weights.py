"""Patch-DM's checkpoints: official names, exact round trips, both copies, and errors that name what does not fit."""

import json

import jax
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.interop import patch_dm
from pdm_jax.interop.patch_dm_config import translate
from pdm_jax.networks import CodeEncoder, CodeMLP, PatchUNet, define

UNET = {
    "in_channels": 3,
    "model_channels": 64,
    "channel_mult": (1, 2, 4, 8),
    "num_res_blocks": 2,
    "attention_resolutions": (16,),
    "embed_channels": 512,
    "enc_out_channels": 512,
    "dropout": 0.1,
    "resblock_updown": True,
    "num_heads": 1,
}
ENCODER = {
    "in_channels": 3,
    "model_channels": 64,
    "channel_mult": (1, 2, 4, 8, 8),
    "num_res_blocks": 2,
    "attention_resolutions": (16,),
    "image_size": 64,
    "out_channels": 512,
}
LATENT = {
    "num_channels": 512,
    "num_hid_channels": 2048,
    "num_layers": 10,
    "skip_layers": range(1, 10),
    "num_time_emb_channels": 64,
}
SMALL = {  # the same kinds of networks, of a few numbers
    "unet": UNET
    | {"model_channels": 32, "channel_mult": (1, 1), "num_res_blocks": 1, "embed_channels": 4}
    | {"enc_out_channels": 6, "attention_resolutions": (32,)},
    "encoder": ENCODER | {"model_channels": 32, "channel_mult": (1, 1), "num_res_blocks": 1, "out_channels": 6},
    "latent": LATENT | {"num_channels": 6, "num_hid_channels": 8, "num_layers": 3, "skip_layers": (1, 2)},
}
CLASSES = {"unet": PatchUNet, "encoder": CodeEncoder, "latent": CodeMLP}


def definition_of(network, official):
    settings = translate(network, official)
    return define(lambda rngs: CLASSES[network](**settings, rngs=rngs))


def random_params(definition, seed=0):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda s: generator.standard_normal(s.shape, np.float32), definition.shapes)


@pytest.fixture(scope="module")
def model():
    """Definitions, parameters and all tensors of a small model."""
    definitions = {name: definition_of(name, official) for name, official in SMALL.items()}
    params = {name: random_params(definition) for name, definition in definitions.items()}
    tensors = {}
    for name, definition in definitions.items():
        tensors |= patch_dm.to_official(params[name], definition, name)
    return definitions, params, tensors


def error_of(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("network", "official", "file"),
    [
        ("unet", UNET, "patchdm_unet_nature1024"),
        ("encoder", ENCODER, "patchdm_encoder_semantic_imgsize64"),
        ("encoder", ENCODER | {"image_size": 256}, "patchdm_encoder_semantic_imgsize256"),
        ("latent", LATENT, "patchdm_latent"),
    ],
)
def test_names_and_shapes_are_those_of_released_checkpoints(network, official, file, golden):
    expected = {name: tuple(shape) for name, shape in json.loads((golden / "keys" / f"{file}.json").read_text())}
    expected.pop(patch_dm.TABLE, None)
    definition = definition_of(network, official)
    empty = jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), definition.shapes)
    assert {name: a.shape for name, a in patch_dm.to_official(empty, definition, network).items()} == expected


@pytest.mark.parametrize("network", list(SMALL))
def test_round_trips_are_exact(network, model):
    definitions, params, tensors = model
    loaded = patch_dm.load(tensors, definitions[network], network)  # the other networks' tensors are left alone
    jax.tree.map(np.testing.assert_array_equal, loaded, params[network])
    back = patch_dm.to_official(loaded, definitions[network], network)
    for name, array in back.items():
        np.testing.assert_array_equal(array, tensors[name])


def test_a_projected_code_has_the_programs_names(model):
    names = {name: array.shape for name, array in model[2].items() if ".style." in name}
    assert names["time_embed.style.0.weight"] == (4, 6) and names["time_embed.style.2.weight"] == (4, 4)


def test_copies(model):
    _, _, tensors = model
    last = {f"model.{name}": array for name, array in tensors.items()}
    averaged = {f"ema_model.{name}": 2 * array for name, array in tensors.items()}
    statistics = {"conds_mean": np.zeros((1, 6)), "conds_std": np.ones((1, 6))}
    both = patch_dm.copies(last | averaged | statistics)
    assert both["params"].keys() == both["ema"].keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(both["params"][name], array)
        np.testing.assert_array_equal(both["ema"][name], 2 * array)
    for one in (last, tensors):
        found = patch_dm.copies(one)
        assert found["params"].keys() == found["ema"].keys() == tensors.keys()
    assert "1 surplus: optimizer.lr (got ())" in error_of(patch_dm.copies, last | {"optimizer.lr": np.zeros(())})


def test_aliases_must_agree_and_may_lack(model):
    definitions, params, tensors = model
    alias, own = "latent_net.layers.1.cond_layers.1.weight", "latent_net.layers.1.linear_emb.weight"
    for name in (alias, own):
        one = {key: array for key, array in tensors.items() if key != name}
        loaded = patch_dm.load(one, definitions["latent"], "latent")
        jax.tree.map(np.testing.assert_array_equal, loaded, params["latent"])
    message = error_of(patch_dm.load, tensors | {alias: tensors[alias] + 1}, definitions["latent"], "latent")
    assert "two versions of latent_net.layers.1.linear_emb.weight" in message


def test_the_table(model):
    definitions, params, tensors = model
    table = np.arange(12, dtype=np.float16).reshape(2, 6)
    whole = tensors | {patch_dm.TABLE: table}
    loaded = patch_dm.load_table(whole, dim=6)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, table)
    jax.tree.map(
        np.testing.assert_array_equal, patch_dm.load(whole, definitions["encoder"], "encoder"), params["encoder"]
    )
    assert "has no table of codes" in error_of(patch_dm.load_table, tensors)
    assert "(got (2, 6), wanted (3, 6))" in error_of(patch_dm.load_table, whole, 3, 6)


def test_tensors_that_do_not_fit_are_named(model):
    definitions, _, tensors = model
    changed = dict(tensors)
    changed["out.0.scale"] = changed.pop("out.0.weight")
    changed["middle_block.0.cond_emb_layers.1.bias"] = np.zeros(3, np.float32)
    message = error_of(patch_dm.load, changed, definitions["unet"], "unet")
    assert "1 misshapen: middle_block.0.cond_emb_layers.1.bias (got (3,), wanted (32,))" in message
    assert "1 missing: out.0.weight (wanted (32,)); 1 surplus: out.0.scale (got (32,)). Check" in message


def test_translation():
    assert translate("unet", UNET) == {
        "channels": 3,
        "width": 64,
        "channel_mult": (1, 2, 4, 8),
        "num_blocks": 2,
        "attn_levels": (2,),
        "code_dim": 512,
        "embed_dim": 512,
        "dropout": 0.1,
    }
    assert translate("encoder", ENCODER | {"image_size": 256})["attn_levels"] == (4,)
    latent = {"code_dim": 512, "width": 2048, "num_layers": 10, "skip_layers": tuple(range(1, 10)), "time_width": 64}
    assert translate("latent", LATENT) == latent


def test_translation_errors():
    assert "lacks channel_mult" in error_of(translate, "unet", {k: v for k, v in UNET.items() if k != "channel_mult"})
    assert "num_heads 4; only 1" in error_of(translate, "unet", UNET | {"num_heads": 4})
    assert "pool adaptivenonzerotail; only adaptivenonzero" in error_of(
        translate, "encoder", ENCODER | {"pool": "adaptivenonzerotail"}
    )
    assert translate("latent", LATENT | {"skip_layers": [1, 2]})["skip_layers"] == (1, 2)
