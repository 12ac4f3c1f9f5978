"""PyTorch files are read without torch, and nothing but tensors comes out of them."""

import argparse
import collections
import os
import pickle
import sys
import types

import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.interop import torch_files
from tests.interop import pt_writer

_BASE = np.arange(24, dtype=np.float32).reshape(4, 6)
EXPECTED = {  # what the stored files were made from
    "float": _BASE,
    "transposed": _BASE.T,
    "slice": _BASE[1:3, ::2],
    "half": (_BASE / 8).astype(np.float16),
    "bfloat": _BASE / 8,
    "double": _BASE.astype(np.float64) / 3,
    "long": np.arange(3) - 1,
    "bool": np.array([True, False, True]),
    "scalar": np.float32(2.5),
    "empty": np.zeros((0, 3), np.float32),
    "parameter": _BASE[0],
}


@pytest.fixture(scope="module")
def stored(golden):
    """The folder of files that torch wrote."""
    return golden / "torch_files"


def error_of(path) -> str:
    with pytest.raises(UserError) as caught:
        torch_files.state_dict(torch_files.read(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["tensors.pt", "tensors_legacy.pt"])
def test_what_torch_wrote_is_read(stored, name):
    saved = torch_files.read(stored / name)
    assert (saved["step"], saved["lr"]) == (7, 0.5) and saved["note"].startswith("made by torch")
    tensors = torch_files.state_dict(saved)
    assert list(tensors) == list(EXPECTED)
    for key, value in EXPECTED.items():
        np.testing.assert_array_equal(tensors[key].astype(np.float64), np.asarray(value, np.float64), key)
        assert key == "bfloat" or tensors[key].dtype == value.dtype
    assert tensors["bfloat"].dtype.name == "bfloat16"


def test_a_plain_state_dict(stored):
    tensors = torch_files.state_dict(torch_files.read(stored / "state_dict.pt"))
    assert {key: value.shape for key, value in tensors.items()} == {
        "0.weight": (3, 2),
        "0.bias": (3,),
        "1.weight": (2, 1, 3, 3),
        "1.bias": (2,),
    }
    np.testing.assert_array_equal(tensors["0.weight"], np.arange(6.0).reshape(3, 2))


def test_torch_is_not_needed(stored):
    torch_files.read(stored / "tensors.pt")
    assert "torch" not in sys.modules


def test_averaged_weights_come_first():
    raw, ema = {"w": np.zeros(1)}, {"w": np.ones(1)}
    assert torch_files.state_dict({"model": raw, "ema": ema, "step": 3}) == ema
    assert torch_files.state_dict({"state_dict": {"model": raw}}) == raw
    with pytest.raises(UserError, match="holds no dict of tensors"):
        torch_files.state_dict({"optimizer": {"lr": 1.0}})
    with pytest.raises(UserError, match="holds no dict of tensors"):
        torch_files.state_dict([np.zeros(1)])


def test_a_whole_module_is_refused_by_name(stored):
    assert "holds torch.nn.modules.container.Sequential, which is no tensor" in error_of(stored / "module.pt")


class _Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("function", [os.system, eval, print, collections.Counter, pickle.loads])
def test_nothing_in_a_file_is_run(tmp_path, function, capsys):
    path = pt_writer.write_archive(tmp_path / "hostile.pt", pickle.dumps({"w": _Call(function, "1")}), {})
    assert f".{function.__name__}, which is no tensor" in error_of(path)
    (tmp_path / "hostile_legacy.pt").write_bytes(pickle.dumps(_Call(function, "1")))
    assert f".{function.__name__}, which is no tensor" in error_of(tmp_path / "hostile_legacy.pt")
    assert capsys.readouterr().out == ""


@pytest.fixture
def lightning(monkeypatch):
    """A class that pickles as one of Lightning's."""
    module = types.ModuleType("pytorch_lightning.callbacks")
    module.ModelCheckpoint = type("ModelCheckpoint", (list,), {"__module__": module.__name__})
    for name in ("pytorch_lightning", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    return module.ModelCheckpoint


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_lightning_keeps_is_passed_over(tmp_path, lightning, protocol):
    callback = lightning([1])
    callback.monitor = "val/loss"
    settings = argparse.Namespace(rate=1e-4, counts=collections.defaultdict(dict, a={}))
    saved = {"epoch": 3, "callbacks": {lightning: {"best": np.float64(0.5)}}, "others": [callback, settings]}
    path = pt_writer.write_archive(tmp_path / "last.ckpt", pickle.dumps(saved, protocol), {})
    assert torch_files.read(path)["epoch"] == 3
    assert "holds no dict of tensors" in error_of(path)


def test_a_state_dict_beside_what_lightning_keeps(tmp_path):
    weights = pt_writer.saved({"w": pt_writer.tensor("0", 2, 0, (2,), (1,))}).decode().removesuffix(".")
    callbacks = "(cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\nVval/loss\nd"
    pickled = pt_writer.saved({"state_dict": weights, "callbacks": callbacks})
    path = pt_writer.write_archive(tmp_path / "last.ckpt", pickled, {"0": np.array([3, 4], "<f4").tobytes()})
    np.testing.assert_array_equal(torch_files.state_dict(torch_files.read(path))["w"], [3, 4])


def write_view(path, offset, shape, strides):
    """A file with one view of the numbers 0 to 7."""
    pickled = pt_writer.saved({"w": pt_writer.tensor("0", 8, offset, shape, strides)})
    return pt_writer.write_archive(path, pickled, {"0": np.arange(8, dtype="<f4").tobytes()})


def test_views_of_a_storage(tmp_path):
    path = write_view(tmp_path / "view.pt", 1, (2, 3), (4, 1))
    np.testing.assert_array_equal(torch_files.read(path)["w"], [[1, 2, 3], [5, 6, 7]])


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(2, (2, 3), (4, 1)), (-1, (2,), (1,)), (0, (2,), (-1,)), (9, (), ()), (0, (10**12,), (0,)), (0, (-1,), (1,))],
)
def test_views_past_their_storage_are_refused(tmp_path, offset, shape, strides):
    message = error_of(write_view(tmp_path / "view.pt", offset, shape, strides))
    assert "reaches past its data" in message or "not a sound PyTorch file" in message


def test_damaged_files(stored, tmp_path):
    assert "does not exist" in error_of(tmp_path / "nowhere.pt")
    (tmp_path / "text.pt").write_text("hello")
    assert "not a sound PyTorch file" in error_of(tmp_path / "text.pt")
    (tmp_path / "number.pt").write_bytes(pickle.dumps(5))
    assert "is no PyTorch file" in error_of(tmp_path / "number.pt")
    pt_writer.write_archive(tmp_path / "empty.pt", b"", {})
    assert "not a sound PyTorch file" in error_of(tmp_path / "empty.pt")
    pt_writer.write_archive(tmp_path / "short.pt", pt_writer.saved({"w": pt_writer.tensor("0", 8, 0, (8,), (1,))}), {})
    assert "not a sound PyTorch file" in error_of(tmp_path / "short.pt")
    for name in ("tensors.pt", "tensors_legacy.pt"):
        whole = (stored / name).read_bytes()
        for part in (0.2, 0.6, 0.95):
            (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
            error_of(tmp_path / name)


def test_the_writer_of_these_tests(tmp_path):
    tensors = {"a.weight": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "b": np.float32([7])}
    read = torch_files.state_dict(torch_files.read(pt_writer.write(tmp_path / "w.pt", tensors)))
    assert list(read) == ["a.weight", "b"]
    np.testing.assert_array_equal(read["a.weight"], tensors["a.weight"])
