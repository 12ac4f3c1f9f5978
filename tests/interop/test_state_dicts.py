import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.interop import safetensors_files
from pdm_jax.interop.state_dicts import conv_kernel, conv_shape, read_tensors, select
from tests.interop.pt_writer import saved, tensor, write, write_archive

TENSORS = {"conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "conv.bias": np.ones(2, np.float32)}
WANTED = {name: value.shape for name, value in TENSORS.items()}


def test_both_kinds_of_file_are_read(tmp_path):
    safetensors_files.write(tmp_path / "a.safetensors", TENSORS, {})
    write(tmp_path / "a.pth", TENSORS)
    for name in ("a.safetensors", "a.pth"):
        tensors = read_tensors(tmp_path / name)
        assert tensors.keys() == TENSORS.keys()
        for key, value in tensors.items():
            np.testing.assert_array_equal(value, TENSORS[key])


def test_a_file_that_cannot_be_read_is_named_once(tmp_path):
    cut = write_archive(tmp_path / "cut.pth", saved({"w": tensor("0", 2, 0, (4,), (1,))}), {"0": bytes(8)})
    empty = write(tmp_path / "empty.pth", {})
    for path, reason in ((cut, "cut short"), (empty, "no dict of tensors"), (tmp_path / "none.pth", "does not exist")):
        with pytest.raises(UserError, match=reason) as error:
            read_tensors(path)
        assert str(error.value).count(str(path)) == 1


def test_only_surplus_that_is_named_is_dropped():
    more = TENSORS | {"norm.counter": np.zeros((), np.int64)}
    assert select(more, WANTED, r".*\.counter").keys() == WANTED.keys()
    with pytest.raises(UserError, match=r"1 surplus: norm.counter"):
        select(more, WANTED, "counter")
    with pytest.raises(UserError, match=r"1 missing: conv.bias"):
        select({"conv.weight": TENSORS["conv.weight"]}, WANTED, ".*")


def test_kernels_are_turned_to_channels_last():
    weight = TENSORS["conv.weight"]
    kernel = conv_kernel(weight)
    assert kernel[1, 0, 2, 1] == weight[1, 2, 1, 0] and conv_shape(kernel.shape) == weight.shape
