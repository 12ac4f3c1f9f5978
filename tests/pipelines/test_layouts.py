"""Larger canvases: pictures and trained grids lie where they should, and noise stays white."""

import jax
import numpy as np
import pytest
from einops import reduce
from hypothesis import given
from hypothesis import strategies as st

from pdm_jax.errors import UserError
from pdm_jax.ops import positions
from pdm_jax.pipelines.layouts import around, enlarged_noise, extended, surrounded_noise, upscaled, whole

KEYS = jax.random.split(jax.random.key(1), 2)
NOISE = jax.random.normal(jax.random.key(0), (2, 32, 16, 3))
TRAINED = (32, 16)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_enlarged_noise_keeps_the_coarse_noise_and_stays_white(factor):
    large = np.asarray(enlarged_noise(NOISE, factor, KEYS))
    assert large.shape == (2, 32 * factor, 16 * factor, 3)
    blocks = reduce(large, "b (h p) (w q) c -> b h w c", "mean", p=factor, q=factor)
    np.testing.assert_allclose(factor * blocks, NOISE, atol=1e-5)
    assert large.std() == pytest.approx(1, abs=0.03)
    for neighbour in (large[:, 1:], large[:, :, 1:], large[..., 1:]):
        pair = large[tuple(slice(n) for n in neighbour.shape)]
        assert abs(np.mean(pair * neighbour)) < 0.06


def test_surrounded_noise_keeps_the_noise_where_it_was():
    large = np.asarray(surrounded_noise(NOISE, (8, 0, 3, 5), KEYS))
    assert large.shape == (2, 40, 24, 3)
    np.testing.assert_array_equal(large[:, 8:, 3:19], NOISE)
    added = np.concatenate([large[:, :8].ravel(), large[:, 8:, :3].ravel(), large[:, 8:, 19:].ravel()])
    assert added.std() == pytest.approx(1, abs=0.06)
    assert (large[0, :8] != large[1, :8]).all()


def test_more_patches_inside_and_outside():
    inside, outside = upscaled(TRAINED, 8, 2), extended(TRAINED, 8, (1, 0, 2, 0))
    assert inside.size == (64, 32) and outside.size == (40, 32)
    np.testing.assert_array_equal(inside.position, positions.interpolated(4, 2, 2))
    np.testing.assert_array_equal(outside.position, positions.extended(4, 2, 1, 0, 2, 0))
    for layout in (inside, outside):
        assert layout.start(NOISE, KEYS).shape == (2, *layout.size, 3)
        assert layout.cut(np.zeros((2, *layout.size, 3))).shape == (2, *layout.size, 3)


def test_a_picture_of_the_trained_size_with_whole_margins_is_an_extension():
    layout, wanted = around(TRAINED, 8, TRAINED, (8, 16, 0, 24)), extended(TRAINED, 8, (1, 2, 0, 3))
    assert layout.size == wanted.size and layout.window == (slice(0, 56), slice(0, 40))
    np.testing.assert_array_equal(layout.position, wanted.position)


@given(st.integers(1, 20), st.integers(1, 20), st.tuples(*[st.integers(0, 9)] * 4))
def test_a_picture_of_any_size_begins_at_a_patch_of_its_own(height, width, margins):
    layout, (top, bottom, left, right) = around(TRAINED, 8, (height, width), margins), margins
    assert all(side % 8 == 0 for side in layout.size)
    assert layout.position.shape == (layout.size[0] // 8 + 1, layout.size[1] // 8 + 1, 3)
    result = np.random.default_rng(0).integers(1, 9, (height + top + bottom, width + left + right, 3))
    placed = layout.place(result)
    np.testing.assert_array_equal(layout.cut(placed[None])[0], result)
    row, column = (side.start + margin for side, margin in zip(layout.window, (top, left), strict=True))
    assert row % 8 == column % 8 == 0
    known = layout.position[..., 2] == 1
    np.testing.assert_array_equal(layout.position[row // 8, column // 8], [0, 0, 1])  # the trained corner
    np.testing.assert_array_equal(layout.position[known][-1], [4, 2, 1])
    assert known.sum() == (-(-height // 8) + 1) * (-(-width // 8) + 1)


def test_a_network_that_sees_whole_images_has_one_canvas():
    layout = whole(TRAINED, (20, 10), (2, 3, 6, 0))
    assert layout.size == TRAINED and layout.position is None
    assert layout.cut(np.zeros((1, 32, 16, 3))).shape == (1, 25, 16, 3)
    np.testing.assert_array_equal(layout.start(NOISE, KEYS), NOISE)
    with pytest.raises(UserError, match=r"would have 33x16 pixels and this model makes 32x16 .* patch_dm"):
        whole(TRAINED, (32, 16), (0, 1, 0, 0))
