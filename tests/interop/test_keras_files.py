"""Keras h5 files are read by position, whatever their names."""

import json
import re

import h5py
import jax
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.interop import keras_files, pdm, reference_files
from pdm_jax.interop.pdm_config import translate
from pdm_jax.networks import PDMUNet, define


@pytest.fixture(scope="module")
def official(golden):
    """The definition and the named tensors of an official network."""
    folder = golden / "pdm_tf" / "uncond_p2"
    network, _ = translate(json.loads((folder / "meta.json").read_text())["config"])
    return define(lambda rngs: PDMUNet(**network, rngs=rngs)), reference_files.read(folder / "weights.safetensors")


def counted(name: str, offset: int) -> str:
    """The name that the same weight has where the process has made `offset` layers before."""
    return re.sub(
        r"(conv2d|dense|sequential|resblock|group_normalization|u_net)(?:_(\d+))?(?=[/:])",
        lambda match: f"{match[1]}_{int(match[2] or 0) + offset}",
        name,
    )


def write(file: h5py.Group, tensors, *, as_bytes: bool = False) -> None:
    """Lays out a group as `save_weights` does: one group a layer, names in attributes."""
    layers: dict[str, list] = {}
    for name, array in tensors:
        layer, _, weight = name.partition("/")
        layers.setdefault(layer, []).append((weight, array))
    encode = (lambda names: [name.encode() for name in names]) if as_bytes else list
    file.attrs["layer_names"] = encode(layers)
    file.attrs["backend"] = "tensorflow"
    file.create_group("top_level_model_weights").attrs["weight_names"] = encode([])
    for layer, weights in layers.items():
        group = file.create_group(layer)
        group.attrs["weight_names"] = encode(weight for weight, _ in weights)
        for weight, array in weights:
            group.create_dataset(weight, data=array)


@pytest.mark.parametrize("offset", [0, 17])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_counters_in_names_change_nothing(official, tmp_path, offset, as_bytes):
    definition, tensors = official
    renamed = [(counted(name, offset) if offset else name, array) for name, array in tensors]
    assert len(dict(renamed)) == len(tensors) and (offset == 0) == (renamed == tensors)
    with h5py.File(tmp_path / "ema_weights.h5", "w") as file:
        write(file, renamed, as_bytes=as_bytes)
    read = keras_files.read(tmp_path / "ema_weights.h5")
    assert [name for name, _ in read] == [name for name, _ in renamed]
    jax.tree.map(np.testing.assert_array_equal, pdm.load(read, definition), pdm.load(tensors, definition))


def test_names_in_chunks_and_a_whole_model(tmp_path):
    tensors = [(f"layer_{i}/kernel:0", np.full((2, i + 1), i, np.float32)) for i in range(3)]
    with h5py.File(tmp_path / "model.h5", "w") as file:
        weights = file.create_group("model_weights")
        write(weights, tensors)
        names = list(weights.attrs["layer_names"])
        del weights.attrs["layer_names"]
        weights.attrs["layer_names0"], weights.attrs["layer_names1"] = names[:2], names[2:]
    read = keras_files.read(tmp_path / "model.h5")
    assert [name for name, _ in read] == [name for name, _ in tensors]
    np.testing.assert_array_equal(read[2][1], tensors[2][1])


def test_errors_are_one_line(tmp_path):
    def error_of(path) -> str:
        with pytest.raises(UserError) as caught:
            keras_files.read(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "does not exist" in error_of(tmp_path / "nowhere.h5")
    (tmp_path / "text.h5").write_text("not h5")
    assert "not a sound Keras weight file" in error_of(tmp_path / "text.h5")
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["x"] = np.zeros(3)
    assert "no attribute layer_names" in error_of(tmp_path / "plain.h5")
    with h5py.File(tmp_path / "short.h5", "w") as file:
        write(file, [("a/kernel:0", np.zeros(1000)), ("b/kernel:0", np.zeros(1000))])
        del file["b/kernel:0"]
    assert "not a sound Keras weight file" in error_of(tmp_path / "short.h5")
    whole = (tmp_path / "short.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    assert "not a sound Keras weight file" in error_of(tmp_path / "cut.h5")
