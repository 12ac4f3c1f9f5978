"""PDM's official weights: names and shapes at full size, exact round trips, and errors that list what is wrong."""

import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.interop import pdm, reference_files
from pdm_jax.interop.pdm_config import translate
from pdm_jax.interop.pdm_layout import layout
from pdm_jax.networks import PDMUNet, define
from tests import full_size

LEAVES = {"kernel:0": "kernel", "bias:0": "bias", "gamma:0": "scale", "beta:0": "bias", "embeddings:0": "embedding"}


def read_json(path: Path):
    return json.loads(path.read_text())


def open_case(folder: Path):
    """The definition and the official tensors of a small network."""
    network, _ = translate(read_json(folder / "meta.json")["config"])
    return define(lambda rngs: PDMUNet(**network, rngs=rngs)), reference_files.read(folder / "weights.safetensors")


@pytest.fixture(scope="module")
def small():
    """A definition and official tensors with consecutive numbers, so that each entry is told from all others."""
    network = {"channels": 12, "width": 32, "channel_mult": (1, 2), "num_blocks": (1, 2), "attn_levels": (1,)}
    definition = define(lambda rngs: PDMUNet(**network, num_classes=3, class_input="gate", head_dim=32, rngs=rngs))
    numbers = itertools.count()
    params = jax.tree.map(
        lambda leaf: np.fromiter(itertools.islice(numbers, leaf.size), np.float32).reshape(leaf.shape),
        definition.shapes,
    )
    return definition, params


@pytest.mark.parametrize("name", full_size.NAMES)
def test_full_size_networks_have_the_official_tensors(name):
    definition, weights = full_size.definition(name), full_size.keys(name)["weights"]
    entries = layout(definition.shapes)
    shapes = {tuple(key.key for key in path): leaf.shape for path, leaf in jax.tree.leaves_with_path(definition.shapes)}
    assert {entry.path for entry in entries} == set(shapes) and len(entries) == len(shapes)
    assert [shapes[entry.path] for entry in entries] == [tuple(shape) for _, shape in weights]
    assert [entry.path[-1] for entry in entries] == [LEAVES[key.split("/")[-1]] for key, _ in weights]


@pytest.mark.parametrize("name", full_size.NAMES)
def test_full_size_networks_have_the_torch_tensors(name):
    ours = pdm.torch_shapes(full_size.definition(name))
    assert list(ours.items()) == [(torch_name, tuple(shape)) for torch_name, shape, _ in full_size.torch_rows(name)]


@pytest.mark.parametrize("name", ["uncond_p2", "cond_se_p4"])
def test_round_trips_are_exact(name, golden):
    definition, tensors = open_case(golden / "pdm_tf" / name)
    params = pdm.load(tensors, definition)
    assert jax.tree.map(lambda p: p.shape, params) == jax.tree.map(lambda s: s.shape, definition.shapes)
    for (_, official), back in zip(tensors, pdm.to_official(params, definition), strict=True):
        np.testing.assert_array_equal(official, back)
    again = pdm.load_torch(pdm.to_torch(params, definition), definition)
    jax.tree.map(np.testing.assert_array_equal, params, again)


@pytest.mark.parametrize("name", ["uncond_p2", "cond_se_p4"])
def test_torch_tensors_are_those_of_the_map(name, golden):
    """Name by name against the list that the official programs were compared with."""
    definition, tensors = open_case(golden / "pdm_tf" / name)
    ours, official = pdm.to_torch(pdm.load(tensors, definition), definition), dict(tensors)
    for torch_name, shape, key in read_json(golden / "pdm_torch" / f"map_{name}.json"):
        array = official[key]
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif key.endswith("kernel:0"):
            array = array.T.reshape(shape)
        np.testing.assert_array_equal(ours.pop(torch_name), array)
    assert not ours


def test_every_tensor_keeps_its_place(small):
    definition, params = small
    names = [(f"w{i}", array) for i, array in enumerate(pdm.to_official(params, definition))]
    jax.tree.map(np.testing.assert_array_equal, pdm.load(names, definition), params)
    jax.tree.map(np.testing.assert_array_equal, pdm.load_torch(pdm.to_torch(params, definition), definition), params)


def test_half_precision_becomes_float32(small):
    definition, params = small
    halves = [("w", np.zeros(array.shape, np.float16)) for array in pdm.to_official(params, definition)]
    assert {leaf.dtype for leaf in jax.tree.leaves(pdm.load(halves, definition))} == {np.dtype(np.float32)}


def official(small):
    definition, params = small
    arrays = pdm.to_official(params, definition)
    return definition, [
        (entry.torch_name, array) for entry, array in zip(layout(definition.shapes), arrays, strict=True)
    ]


def error_of(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_tensor_is_named_not_those_behind_it(small):
    definition, tensors = official(small)
    message = error_of(pdm.load, tensors[:9] + tensors[10:], definition)
    assert "network: 1 missing: encoder.0.block.conv_in.kernel (wanted (3, 3, 32, 32)). Check" in message


def test_a_surplus_tensor_is_named(small):
    definition, tensors = official(small)
    message = error_of(pdm.load, [*tensors[:20], ("extra/kernel:0", np.zeros((5, 7))), *tensors[20:]], definition)
    assert "network: 1 surplus: extra/kernel:0 (got (5, 7)). Check" in message


def test_misshapen_tensors_are_named_with_both_shapes(small):
    definition, tensors = official(small)
    tensors = list(tensors)
    tensors[1] = ("first/kernel:0", np.zeros((7, 128)))
    tensors[-1] = ("last/bias:0", np.zeros(5))
    message = error_of(pdm.load, tensors, definition)
    assert "network: 2 misshapen: " in message
    assert "first/kernel:0 as time_mlp.dense_in.kernel (got (7, 128), wanted (32, 128))" in message
    assert "last/bias:0 as variance_head.conv_out.bias (got (5,), wanted (12,))" in message


def test_torch_names_that_do_not_match_are_listed(small):
    definition, params = small
    tensors = pdm.to_torch(params, definition)
    tensors["out.0.scale"] = tensors.pop("out.0.weight")
    tensors["out.2.bias"] = np.zeros(3)
    message = error_of(pdm.load_torch, tensors, definition)
    assert "1 misshapen: out.2.bias (got (3,), wanted (12,)); 1 missing: out.0.weight (wanted (32,))" in message
    assert "; 1 surplus: out.0.scale (got (32,)). Check" in message


def test_a_wholly_other_file_gives_a_short_list(small):
    definition, _ = small
    message = error_of(pdm.load_torch, {f"layer{i}": np.zeros(1) for i in range(500)}, definition)
    assert "500 surplus: layer0 (got (1,))" in message and "and 492 more. Check" in message and len(message) < 1500


CONFIG = {
    "image_resolution": 64,
    "c": 64,
    "num_res_blocks": [1, 2],
    "attn_resos": [16, 4],
    "c_mult": [1, 2],
    "num_classes": 5,
    "patchsize": 2,
    "se": True,
    "droprate": 0.1,
}


def test_translation():
    network, patch_size = translate(CONFIG)
    assert patch_size == 2
    assert network == {
        "channels": 12,
        "width": 64,
        "channel_mult": (1, 2),
        "num_blocks": (1, 2),
        "attn_levels": (1,),
        "num_classes": 5,
        "class_input": "gate",
    }
    assert translate(CONFIG | {"se": False})[0]["class_input"] == "add"
    assert translate(CONFIG | {"num_res_blocks": 3})[0]["num_blocks"] == 3
    assert translate(CONFIG | {"attn_resos": [32, 16]})[0]["attn_levels"] == (0, 1)


@pytest.mark.parametrize("num_classes", [0, 1])
def test_one_class_or_none_is_unconditional(num_classes):
    network, _ = translate(CONFIG | {"num_classes": num_classes})
    assert network["num_classes"] == 0
    assert "label_embedding" not in define(lambda rngs: PDMUNet(**network, rngs=rngs)).shapes


def test_translation_errors():
    assert "lacks c_mult" in error_of(translate, {k: v for k, v in CONFIG.items() if k != "c_mult"})
    assert "unknown keys width" in error_of(translate, CONFIG | {"width": 3})
    assert "multiple of 3" in error_of(translate, CONFIG | {"patchsize": 3})
