"""What is refused, dealing, and gathering from several hosts."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation.features import check_features, deal, gathered
from pdm_jax.evaluation.statistics import Statistics

HOST = """
import sys

import jax
import numpy as np

jax.distributed.initialize("localhost:" + sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
from pdm_jax.evaluation.features import gathered
from pdm_jax.evaluation.inception_score import ClassSums
from pdm_jax.evaluation.statistics import Statistics

mine = np.random.RandomState(0).randn(9, 3)[jax.process_index() :: 2] + 1e4
every = gathered(Statistics.of(mine))
sums = gathered(ClassSums.empty(3).add(mine))
np.savez(sys.argv[3], n=every.n, mean=every.mean, covariance=every.covariance, images=sums.n, p=sums.probabilities)
"""


@pytest.mark.parametrize(
    "features, problem",
    [
        (np.zeros((2, 3, 4)), r"\(2, 3, 4\), expected \(images, size\)"),
        (np.zeros((2, 3)), "needs at least 3 images on each side, got 2"),
        (np.array([[0, np.nan], [np.inf, 1], [1, 1]], np.float32), "2 of 3 images have features that are NaN"),
    ],
)
def test_bad_features_are_refused(features, problem):
    with pytest.raises(UserError, match=problem):
        check_features(features, least=3)


def test_rows_go_to_the_part_of_their_number():
    rows = np.arange(10.0)[:, None]
    parts = deal([Statistics.empty(1)] * 3, rows, np.arange(10) % 3)
    assert [part.n for part in parts] == [4, 3, 3]
    assert [part.mean.item() for part in parts] == [4.5, 4.0, 5.0]


def test_one_host_gathers_nothing():
    statistics = Statistics.of(np.ones((2, 2)))
    assert gathered(statistics) is statistics


def test_two_hosts_have_the_statistics_of_all(tmp_path):
    """Float64 arrives whole: a mean of 10,000 would spoil a covariance that went through float32."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": str(Path(__file__).parents[2])}
    paths = [tmp_path / f"{host}.npz" for host in range(2)]
    hosts = [
        subprocess.Popen([sys.executable, "-c", HOST, port, str(host), str(path)], env=environment)
        for host, path in enumerate(paths)
    ]
    assert [host.wait(120) for host in hosts] == [0, 0]

    everything = np.random.RandomState(0).randn(9, 3) + 1e4
    for path in paths:
        with np.load(path) as found:
            assert found["n"] == found["images"] == 9
            np.testing.assert_allclose(found["mean"], everything.mean(0), rtol=1e-15)
            np.testing.assert_allclose(found["covariance"], np.cov(everything, rowvar=False), rtol=1e-11, atol=1e-11)
            np.testing.assert_allclose(found["p"], np.asarray(jax.nn.softmax(everything - 1e4)).sum(0), rtol=1e-5)
