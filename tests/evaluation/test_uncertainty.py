"""Intervals and extrapolations against Gaussians whose distance is known."""

import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation.features import deal
from pdm_jax.evaluation.frechet import frechet_distance
from pdm_jax.evaluation.statistics import Moments, Statistics
from pdm_jax.evaluation.uncertainty import GROUPS, confidence, extrapolate

SIZE = 8
REFERENCE = Moments(np.zeros(SIZE), np.eye(SIZE))
DEVIATION = np.linspace(0.8, 1.3, SIZE)
TRUE = SIZE * 0.2**2 + np.sum((DEVIATION - 1) ** 2)


def grouped(seed, num):
    features = np.random.RandomState(seed).randn(num, SIZE) * DEVIATION + 0.2
    return deal([Statistics.empty(SIZE)] * GROUPS, features, np.arange(num) % GROUPS)


def test_nineteen_in_twenty_intervals_hold_the_distance():
    intervals = [confidence(grouped(seed, 2000), REFERENCE) for seed in range(100)]
    held = np.mean([found.low <= TRUE <= found.high for found in intervals])
    assert 0.88 <= held <= 1  # three standard deviations of 100 draws
    spread = np.std([found.value for found in intervals])
    assert np.mean([found.standard_error for found in intervals]) == pytest.approx(spread, rel=0.2)
    assert np.mean([found.high - found.low for found in intervals]) < TRUE / 2


def test_extrapolation_removes_the_bias_and_keeps_the_noise():
    groups = [grouped(seed, 400) for seed in range(100)]
    plain = np.array([confidence(of, REFERENCE).value for of in groups])
    lines = [extrapolate(of, REFERENCE) for of in groups]
    beyond = np.array([line.value for line in lines])
    assert abs(beyond.mean() - TRUE) < 0.25 * abs(plain.mean() - TRUE)
    assert beyond.std() == pytest.approx(plain.std(), rel=0.1)
    np.testing.assert_allclose(plain, [line.value + line.slope / 400 for line in lines], rtol=0.1)


def test_the_value_is_that_of_all_samples():
    groups = grouped(0, 205)
    together = Statistics.empty(SIZE)
    for group in groups:
        together = together.merge(group)
    assert confidence(groups, REFERENCE).value == pytest.approx(frechet_distance(together, REFERENCE), rel=1e-12)


@pytest.mark.parametrize("of", [confidence, extrapolate])
def test_too_few_samples_are_refused(of):
    with pytest.raises(UserError, match="got 10 groups, the smallest of 1; use at least 20 images"):
        of(grouped(0, 15), REFERENCE)
    with pytest.raises(UserError, match="got 1 groups"):
        of(grouped(0, 100)[:1], REFERENCE)
