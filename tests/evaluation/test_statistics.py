"""Streamed and merged statistics against those of all features at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdm_jax.errors import UserError
from pdm_jax.evaluation import statistics
from pdm_jax.evaluation.statistics import Statistics


@given(cuts=st.lists(st.integers(0, 40), max_size=4), offset=st.sampled_from([0.0, 1e6]))
def test_batches_and_merges_change_nothing(cuts, offset):
    features = np.random.RandomState(1).randn(40, 5) + offset
    parts = np.split(features, sorted(cuts))
    streamed, merged = Statistics.empty(5), Statistics.empty(5)
    for part in parts:
        streamed, merged = streamed.add(part), Statistics.of(part).merge(merged)
    for found in (streamed, merged):
        assert found.n == 40
        np.testing.assert_allclose(found.mean, features.mean(0), rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(found.covariance, np.cov(features, rowvar=False), rtol=1e-8, atol=1e-9)


def test_long_batches_are_taken_in_blocks(monkeypatch):
    monkeypatch.setattr(statistics, "_BLOCK", 7)
    features = np.random.RandomState(2).randn(40, 5).astype(np.float32)
    np.testing.assert_allclose(Statistics.of(features).covariance, np.cov(features, rowvar=False), rtol=1e-6)


def test_one_image_has_no_covariance():
    with pytest.raises(UserError, match="needs at least 2 images, got 1"):
        _ = Statistics.of(np.ones((1, 3))).covariance


def test_another_size_is_refused():
    with pytest.raises(UserError, match="features of 4 numbers cannot meet a reference of 3"):
        Statistics.empty(3).add(np.ones((2, 4)))
