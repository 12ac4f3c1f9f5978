"""The kernel distance: unbiased at equal distributions, and what is refused."""

import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation.kernel_distance import kernel_distance


def features(seed, num=200):
    return np.random.RandomState(seed).randn(num, 16).astype(np.float32)


def test_equal_distributions_are_at_zero_and_shifted_ones_are_not():
    close = kernel_distance(features(0), features(1), subsets=20, subset_size=100)
    far = kernel_distance(features(0) + np.float32(0.5), features(1), subsets=20, subset_size=100)
    assert abs(close.mean) < close.std < far.mean / 5


def test_one_subset_is_the_formula():
    x, y = features(2, 5).astype(np.float64), features(3, 5).astype(np.float64)

    def mean_kernel(a, b, pairs):
        return np.mean([(a[i] @ b[j] / 16 + 1) ** 3 for i, j in pairs])

    others = [(i, j) for i in range(5) for j in range(5) if i != j]
    everyone = [(i, j) for i in range(5) for j in range(5)]
    expected = mean_kernel(x, x, others) + mean_kernel(y, y, others) - 2 * mean_kernel(x, y, everyone)
    found = kernel_distance(x, y, subsets=1, subset_size=5)
    assert (found.mean, found.std) == (pytest.approx(expected, rel=1e-5), 0)


def test_a_side_with_too_few_images_is_refused():
    with pytest.raises(UserError, match="needs at least 100 images on each side, got 60"):
        kernel_distance(features(0), features(1, num=60), subset_size=100)
