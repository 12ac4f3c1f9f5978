"""CLIP's published folders: names and shapes at full size, shards, and what is refused."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pdm_jax.errors import UserError
from pdm_jax.interop.clip import define_clip, define_text_tower, load, official_shapes, open_clip, open_text_tower
from pdm_jax.networks.functional import count_params
from tests.evaluation.clip_folder import write, write_json

VIT_B16 = {"text_config": {"hidden_size": 512}, "vision_config": {"patch_size": 16}}  # all else has its usual value
SD21_TEXT = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "hidden_act": "gelu",
    "eos_token_id": None,
}


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "clip")


def keys(golden, name):
    return {key: tuple(shape) for key, shape in json.loads((golden / "keys" / f"{name}.json").read_text())}


def test_vit_b16_at_full_size(golden):
    definition = define_clip(VIT_B16)
    assert official_shapes(definition) == keys(golden, "sd21_clip_vit_b16")
    assert count_params(definition.shapes) == 149_620_737


def test_stable_diffusions_text_encoder_at_full_size(golden):
    definition = define_text_tower(SD21_TEXT, with_projection=False)
    assert official_shapes(definition, "text") == keys(golden, "sd21_text_encoder")
    assert count_params(definition.shapes) == 340_387_840


def test_shards_and_old_buffers_load_as_one_file(folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    sharded = write(tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    for file, held in shards.items():
        buffer = {"text_model.embeddings.position_ids": np.arange(16)[None]} if file == "a.safetensors" else {}
        save_file({name: tensors[name] for name in held} | buffer, sharded / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    index["weight_map"]["text_model.embeddings.position_ids"] = "a.safetensors"
    write_json(sharded / "model.safetensors.index.json", index)
    jax.tree.map(np.testing.assert_array_equal, open_clip(sharded)[1], open_clip(folder)[1])

    index["weight_map"][names[0]] = "b.safetensors"
    write_json(sharded / "model.safetensors.index.json", index)
    with pytest.raises(UserError, match=f"{names[0]} in b.safetensors"):
        open_clip(sharded)


@pytest.mark.parametrize("prefix", ["text_model.", ""], ids=["published", "transformers 5"])
@pytest.mark.parametrize("with_projection", [True, False])
def test_the_text_tower_alone(folder, tmp_path, with_projection, prefix):
    """It has the same parameters as in the whole, also from half precision."""
    kept = ("text_model.", "text_projection.") if with_projection else ("text_model.",)
    tensors = {
        name.replace("text_model.", prefix): tensor.astype(np.float16)
        for name, tensor in load_file(folder / "model.safetensors").items()
        if name.startswith(kept)
    }
    config = json.loads((folder / "config.json").read_text())
    write_json(tmp_path / "config.json", config["text_config"] | {"projection_dim": config["projection_dim"]})
    save_file(tensors, tmp_path / "model.safetensors")
    _, params = open_text_tower(tmp_path)
    whole = open_clip(folder)[1]["text"]
    assert ("projection" in params) is with_projection
    expected = {name: whole[name] for name in params}
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b.astype(np.float16)), params, expected)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}


def test_tensors_of_another_network_are_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    definition = define_clip(json.loads((folder / "config.json").read_text()))
    wrong = dict(tensors, surplus=np.zeros(2), logit_scale=np.zeros(1))
    del wrong["visual_projection.weight"]
    with pytest.raises(UserError, match=r"logit_scale \(got.*visual_projection.weight \(wanted.*surplus"):
        load(wrong, definition)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_config": None}, "no vision_config"),
        ({"projection_dim": "16"}, "projection_dim .* is '16'; expected a value like 512"),
        ({"text_config": {"hidden_act": "silu"}}, "'silu' is not known"),
    ],
)
def test_configs_that_cannot_be(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    with pytest.raises(UserError, match=message):
        define_clip(config | change)


def test_files_that_are_missing_or_damaged(folder):
    (folder / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config.json holds no JSON object"):
        open_clip(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is not sound JSON"):
        open_clip(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"config.json does not exist"):
        open_clip(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model.safetensors does not exist"):
        open_text_tower(folder)
