import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from pdm_jax.errors import UserError
from pdm_jax.ops.collage import check_patches, collage, cut, join, pad_half, shifted_positions


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([2, 4, 6]), st.integers(1, 2), st.integers(0, 99))
def test_collage_is_cutting_half_a_map_off_all_maps_side_by_side(n, m, side, batch, seed):
    features = np.random.default_rng(seed).normal(size=(batch, n + 1, m + 1, side, side, 3)).astype(np.float32)
    half = side // 2
    sheet = np.asarray(join(features))[:, half:-half, half:-half]
    np.testing.assert_array_equal(collage(features), cut(sheet, side))


def test_quadrants_come_from_the_four_patches_around():
    numbers = np.arange(2 * 3, dtype=np.float32).reshape(1, 2, 3, 1, 1, 1)
    patches = np.asarray(collage(np.broadcast_to(numbers, (1, 2, 3, 2, 2, 1))))
    np.testing.assert_array_equal(patches[0, 0, 1, :, :, 0], [[1, 2], [4, 5]])


def test_an_image_padded_cut_and_collaged_is_its_aligned_patches():
    image = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)
    np.testing.assert_array_equal(collage(cut(pad_half(image, 4), 4)), cut(image, 4))
    np.testing.assert_array_equal(join(cut(image, 4)), image)


def test_shifted_positions_are_known_where_all_four_are():
    rows, columns = np.meshgrid(np.arange(3.0), np.arange(4.0), indexing="ij")
    position = np.stack([rows, columns, np.ones((3, 4))], axis=-1, dtype=np.float32)[None]
    position[0, 0, 0, 2] = 0
    shifted = np.asarray(shifted_positions(jnp.asarray(position)))
    assert shifted.shape == (1, 2, 3, 3)
    np.testing.assert_array_equal(shifted[0, 1, 2], [1.5, 2.5, 1])
    np.testing.assert_array_equal(shifted[0, :, :, 2], [[0, 1, 1], [1, 1, 1]])


@pytest.mark.parametrize(
    ("size", "patch_size", "levels", "message"),
    [
        ((64, 100), 32, 2, "64x100 is not a whole number of 32x32 patches; .* pad it to 64x128"),
        ((60, 60), 30, 3, "30 cannot be halved 2 times and then cut into quarters; choose a multiple of 8"),
        ((21, 21), 7, 1, "choose a multiple of 2"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(size, patch_size, levels, message):
    with pytest.raises(UserError, match=message):
        check_patches(size, patch_size, levels)


def test_a_size_that_fits_is_accepted_and_one_pixel_more_is_not():
    check_patches((64, 128), 32, 4)
    with pytest.raises(UserError, match="64x129"):
        check_patches((64, 129), 32, 4)
