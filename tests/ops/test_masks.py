"""Weights of known pixels around holes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pdm_jax.ops.masks import known_weights

HOLES = hnp.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7)))


@given(HOLES)
def test_without_a_feather_a_pixel_is_known_or_not(hole):
    np.testing.assert_array_equal(known_weights(hole), ~hole)


@given(HOLES, st.integers(1, 4))
def test_the_weight_is_the_distance_to_the_nearest_hole(hole, feather):
    weights = known_weights(hole, feather)
    holes = np.argwhere(hole)
    for pixel in np.ndindex(hole.shape):
        distance = min((np.abs(pixel - place).max() for place in holes), default=99)
        assert weights[pixel] == pytest.approx(min(distance / (feather + 1), 1))


def test_a_step_edge():
    weights = known_weights(np.arange(6)[None] < 2, feather=3)
    np.testing.assert_array_equal(weights, [[0, 0, 0.25, 0.5, 0.75, 1]])
    assert weights.dtype == np.float32
