"""Images to and from the network, and side by side."""

import jax.numpy as jnp
import numpy as np

from pdm_jax.ops.images import grid, to_float, to_uint8


def test_a_byte_survives_the_round_trip_but_for_truncation():
    values = np.arange(256)
    x = to_float(jnp.asarray(values, jnp.uint8))
    assert float(x[0]) == -1 and float(x[-1]) == 1
    lost = values - np.asarray(to_uint8(x)).astype(int)
    assert set(lost) <= {0, 1}  # truncating, as the papers' programs do


def test_values_outside_the_range_are_clipped():
    np.testing.assert_array_equal(to_uint8(jnp.array([-3.0, -1.0, 1.0, 9.0])), [0, 0, 255, 255])


def test_a_grid_is_nearly_square_and_white_where_empty():
    images = np.zeros((5, 64, 64, 3), np.uint8)
    sheet = grid(images, gap=2)
    assert sheet.shape == (64 * 2 + 2, 64 * 3 + 4, 3)
    assert (sheet[66:, 132:] == 255).all() and (sheet[:64, :64] == 0).all()


def test_labels_that_go_round_make_a_column_a_class():
    images = np.zeros((8, 64, 64, 1), np.uint8)
    assert grid(images, np.array([0, 1, 2, 3] * 2), gap=0).shape == (128, 256, 1)
    assert grid(images, np.array([3] * 8), gap=0).shape == (192, 192, 1)


def test_small_images_are_enlarged_without_leaving_the_range():
    images = np.zeros((1, 8, 8, 1), np.uint8)
    images[0, 4:] = 255
    sheet = grid(images, min_side=64)
    assert sheet.shape == (64, 64, 1)
    assert sheet[0, 0, 0] == 0 and sheet[-1, 0, 0] == 255
    assert (np.diff(sheet[20:44, 0, 0].astype(int)) >= 0).all()  # a smooth edge
