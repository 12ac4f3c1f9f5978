"""Statistics through files: our own, foreign ones, damaged ones, and those of something else."""

import os

import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation.statistics import Statistics
from pdm_jax.evaluation.statistics_files import check_identity, read_statistics, write_statistics

IDENTITY = {"features": "inception", "weights": "0123456789ab", "resize": "clean"}
POOL = Statistics.of(np.random.RandomState(0).randn(9, 4))
SPATIAL = Statistics.of(np.random.RandomState(1).randn(9, 3))


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "reference.npz"
    write_statistics(path, {"pool": POOL, "spatial": SPATIAL}, {**IDENTITY, "source": "folder"})
    return path


@pytest.fixture
def adm(tmp_path):
    path = tmp_path / "adm.npz"
    images = np.zeros((5, 8, 8, 3), np.uint8)
    moments = {"mu": POOL.mean, "sigma": POOL.covariance, "mu_s": SPATIAL.mean, "sigma_s": SPATIAL.covariance}
    np.savez(path, arr_0=images, **moments)
    return path


def test_our_file_comes_back_whole(own):
    stored = read_statistics(own)
    assert stored.identity == {**IDENTITY, "source": "folder"}
    for name, statistics in {"pool": POOL, "spatial": SPATIAL}.items():
        assert stored.moments[name].n == 9
        np.testing.assert_array_equal(stored.moments[name].mean, statistics.mean)
        np.testing.assert_array_equal(stored.moments[name].covariance, statistics.covariance)
    assert os.listdir(own.parent) == [own.name]


def test_a_failed_write_leaves_the_old_file(own, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    before = own.read_bytes()
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        write_statistics(own, {"pool": SPATIAL}, {})
    assert own.read_bytes() == before and os.listdir(own.parent) == [own.name]


def test_pytorch_fid_files_are_read(tmp_path):
    np.savez_compressed(tmp_path / "fid.npz", mu=POOL.mean, sigma=POOL.covariance)
    stored = read_statistics(tmp_path / "fid.npz")
    assert stored.identity is None and list(stored.moments) == ["pool"] and stored.moments["pool"].n is None
    np.testing.assert_array_equal(stored.moments["pool"].covariance, POOL.covariance)
    check_identity(stored, IDENTITY, {"pool": 4})


def test_adm_batches_are_read_without_their_images(adm, monkeypatch):
    read = []
    get = np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda self, key: (read.append(key), get(self, key))[1])
    stored = read_statistics(adm)
    assert sorted(read) == ["mu", "mu_s", "sigma", "sigma_s"]
    np.testing.assert_array_equal(stored.moments["spatial"].mean, SPATIAL.mean)


def test_the_same_network_is_accepted(own):
    check_identity(read_statistics(own), IDENTITY, {"pool": 4, "spatial": 3})


@pytest.mark.parametrize(
    "key, other", [("features", "vgg16"), ("weights", "ba9876543210"), ("resize", "tensorflow"), ("source", "zip")]
)
def test_another_origin_is_refused(own, key, other):
    with pytest.raises(UserError) as refused:
        check_identity(read_statistics(own), {**IDENTITY, key: other}, {"pool": 4})
    mine = {**IDENTITY, "source": "folder"}[key]
    assert f"{key} {mine}" in str(refused.value) and f"{key} {other}" in str(refused.value)


def test_another_size_and_a_missing_output_are_refused(adm):
    stored = read_statistics(adm)
    with pytest.raises(UserError, match="has 4 pool features, but this network has 2048"):
        check_identity(stored, IDENTITY, {"pool": 2048})
    with pytest.raises(UserError, match="holds statistics of pool, spatial, but fc2 is needed"):
        check_identity(stored, IDENTITY, {"fc2": 4096})


@pytest.mark.parametrize("size", [0, 100, 500, 0.5, 0.99])
def test_cut_files_are_refused(own, size):
    content = own.read_bytes()
    own.write_bytes(content[: size if isinstance(size, int) else int(size * len(content))])
    with pytest.raises(UserError, match="cut short"):
        read_statistics(own)


def test_flipped_bits_are_refused(own):
    content = bytearray(own.read_bytes())
    at = content.index(POOL.covariance.tobytes())
    content[at] ^= 1
    own.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        read_statistics(own)


@pytest.mark.parametrize(
    "arrays, problem",
    [
        ({"arr_0": np.zeros((2, 2))}, "holds arr_0, expected statistics"),
        ({"mu": np.zeros(3)}, "sigma"),
        ({"mu": np.zeros(3), "sigma": np.zeros((2, 2))}, r"expected \(D,\) and \(D, D\)"),
        ({"mu": np.zeros(2), "sigma": np.full((2, 2), np.nan)}, "NaN or infinite"),
        ({"mu": np.array([{}]), "sigma": np.zeros((1, 1))}, "is damaged or of another kind"),
        ({"identity": np.array("no json"), "pool/mean": np.zeros(2)}, "is damaged or of another kind"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, arrays, problem):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=problem):
        read_statistics(tmp_path / "x.npz")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_statistics(tmp_path / "x.npz")
