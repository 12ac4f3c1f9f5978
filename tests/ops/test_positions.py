"""Positions of enlarged canvases: the trained grid is found again in each."""

import numpy as np
import pytest

from pdm_jax.ops.positions import extended, grid, interpolated, stretched


def shifted(positions):
    """Of the patches that are made of four neighbours each: the mean, known where all four are."""
    corners = np.stack([positions[:-1, :-1], positions[:-1, 1:], positions[1:, :-1], positions[1:, 1:]])
    return corners[..., :2].mean(0), corners[..., 2].min(0)


def test_the_trained_grid_has_whole_numbers_rows_first():
    positions = grid(2, 4)
    assert positions.shape == (3, 5, 3) and positions.dtype == np.float32
    np.testing.assert_array_equal(positions[2, 3], [2, 3, 1])
    np.testing.assert_array_equal(shifted(positions)[0][1, 2], [1.5, 2.5])


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_interpolated_positions_lie_between_the_trained_ones(factor):
    positions = interpolated(2, 4, factor)
    assert positions.shape == (2 * factor + 1, 4 * factor + 1, 3)
    np.testing.assert_array_equal(positions[::factor, ::factor], grid(2, 4))
    np.testing.assert_allclose(positions[1, 1], [1 / factor, 1 / factor, 1], rtol=1e-6)
    np.testing.assert_allclose(shifted(positions)[0][0, 1], [0.5 / factor, 1.5 / factor], rtol=1e-6)


def test_added_patches_have_no_position():
    positions = extended(4, 4, 1, 0, 2, 3)
    assert positions.shape == (6, 10, 3)
    np.testing.assert_array_equal(positions[1:, 2:7], grid(4, 4))
    assert positions[..., 2].sum() == 25 and not positions[positions[..., 2] == 0].any()
    centres, known = shifted(positions)
    np.testing.assert_array_equal(known, np.pad(np.ones((4, 4)), ((1, 0), (2, 3))))  # all that was trained, no more
    np.testing.assert_array_equal(centres[1:, 2:6], shifted(grid(4, 4))[0])


def test_a_canvas_of_any_size_spans_the_trained_one():
    positions = stretched(4, 4, (3, 8))
    assert positions.shape == (4, 9, 3)
    np.testing.assert_array_equal(positions[-1, -1], [4, 4, 1])
    np.testing.assert_array_equal(positions[0, 3], [0, 1.5, 1])
