"""Safetensors files: round trips, the stored reference weights, and damage."""

import json

import ml_dtypes
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.interop import reference_files, safetensors_files


def error_of(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip(tmp_path):
    tensors = {
        "a.b": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "half": np.ones(3, np.float16),
        "brain": np.full((2, 2), 1.5, ml_dtypes.bfloat16),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(2, np.int8),
    }
    safetensors_files.write(tmp_path / "x.safetensors", tensors, {"config": "{}"})
    read, metadata = safetensors_files.read(tmp_path / "x.safetensors")
    assert metadata == {"config": "{}"} and set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        np.testing.assert_array_equal(read[name], tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_errors_are_one_line(tmp_path):
    path = tmp_path / "x.safetensors"
    assert "does not exist" in error_of(safetensors_files.read, path)
    safetensors_files.write(path, {"a": np.zeros(100, np.float32)}, {})
    path.write_bytes(path.read_bytes()[:-1])
    assert "not a sound safetensors file" in error_of(safetensors_files.read, path)
    path.write_text("text")
    assert "not a sound safetensors file" in error_of(safetensors_files.read, path)
    assert "cannot write" in error_of(safetensors_files.write, tmp_path / "no" / "x", {}, {})


def write_case(folder, layout, **meta):
    tensors = {"g/b:0": np.array([1, -2], np.int8), "g/a:0": np.ones((2, 3), np.float16)}
    safetensors_files.write(folder / "weights.safetensors", tensors, {})
    (folder / "meta.json").write_text(json.dumps(meta | {"layout": layout} if layout else meta))
    return folder / "weights.safetensors"


def test_order_and_values_come_from_the_meta(tmp_path):
    scale = {"g/b:0": 0.25}
    path = write_case(tmp_path, [["g", "b:0", [2]], ["g", "a:0", [2, 3]]], weight_scale=scale)
    (first, b), (second, a) = reference_files.read(path)
    assert (first, second) == ("g/b:0", "g/a:0") and a.dtype == b.dtype == np.float32
    np.testing.assert_array_equal(b, [0.25, -0.5])


def test_order_may_come_from_a_key_list(tmp_path):
    path = write_case(tmp_path, None, weight_scale={"g/b:0": 1.0})
    assert "does not keep an order" in error_of(reference_files.read, path)
    path.with_suffix(".json").write_text(json.dumps({"weights": [["g/b:0", [2]], ["g/a:0", [2, 3]]]}))
    assert [name for name, _ in reference_files.read(path)] == ["g/b:0", "g/a:0"]


def test_an_order_of_other_tensors_is_refused(tmp_path):
    path = write_case(tmp_path, [["g", "b:0", [2]], ["g", "c:0", [1]]])
    assert "differ in g/a:0, g/c:0" in error_of(reference_files.read, path)
