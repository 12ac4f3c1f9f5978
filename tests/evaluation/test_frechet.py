"""Distances between Gaussians: closed forms, rank deficiency, and what corruption does."""

import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation.frechet import frechet_distance
from pdm_jax.evaluation.statistics import Moments, Statistics


def features(seed, num, size=6):
    return np.random.RandomState(seed).randn(num, size) * np.linspace(0.5, 2, size)


def test_diagonal_gaussians():
    a = Moments(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    b = Moments(np.array([1.0, 0.0, 2.0]), np.diag([4.0, 4.0, 1.0]))
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (1 - 2) ** 2 + (3 - 1) ** 2, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-12)


def test_singular_gaussians():
    """On one line, and on lines at right angles."""
    line, across = np.diag([4.0, 0.0, 0.0]), np.diag([0.0, 9.0, 0.0])
    zero = np.zeros(3)
    assert frechet_distance(Moments(zero, line), Moments(zero, line / 4)) == pytest.approx(1)
    assert frechet_distance(Moments(zero, line), Moments(zero, across)) == pytest.approx(13)
    assert frechet_distance(Moments(zero, line), Moments(zero, 0 * line)) == pytest.approx(4)


@pytest.mark.parametrize("num", [4, 50])
def test_a_set_has_no_distance_from_itself(num):
    statistics = Statistics.of(features(0, num))
    assert 0 <= frechet_distance(statistics, statistics) < 1e-12


def test_halves_of_one_set_come_closer_as_it_grows():
    distances = []
    for num in (40, 400, 4000):
        halves = np.split(features(1, num), 2)
        distances.append(frechet_distance(*map(Statistics.of, halves)))
    assert distances[0] > 3 * distances[1] > 9 * distances[2]
    assert distances[2] < 0.05


def test_noise_widens_the_distance():
    reference = Statistics.of(features(2, 300))
    noise = np.random.RandomState(3).randn(300, 6)
    distances = [frechet_distance(Statistics.of(features(4, 300) + s * noise), reference) for s in (0, 0.5, 1, 2)]
    assert distances == sorted(distances) and distances[-1] > 10 * distances[0]


def test_other_sizes_and_single_images_are_refused():
    with pytest.raises(UserError, match="features of 5 numbers cannot meet a reference of 6"):
        frechet_distance(Statistics.of(features(0, 9, size=5)), Statistics.of(features(0, 9)))
    with pytest.raises(UserError, match="needs at least 2 images"):
        frechet_distance(Statistics.of(features(0, 1)), Statistics.of(features(0, 9)))
