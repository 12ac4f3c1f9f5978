"""Holes: what is hidden, how masks shrink, what lies beside z_t, and that known pixels stay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.ops import inpainting

MASK = np.zeros((2, 8, 12, 1), np.uint8)
MASK[0, 2:6, 3:9] = 1
MASK[1, :, 5] = 1


def _image(key: int, *shape: int) -> jax.Array:
    return jax.random.uniform(jax.random.key(key), shape, minval=-1.0)


def test_the_hole_is_black_and_the_rest_is_kept():
    image = _image(0, 2, 8, 12, 3)
    hidden = np.asarray(inpainting.hide(image, MASK))
    hole = MASK[..., 0] == 1
    assert (hidden[hole] == -1).all()
    np.testing.assert_array_equal(hidden[~hole], np.asarray(image)[~hole])


@pytest.mark.parametrize(("size", "rows", "columns"), [((4, 6), [0, 2, 4, 6], 2), ((3, 4), [0, 2, 5], 3)])
def test_masks_shrink_to_the_pixel_up_and_left(size, rows, columns):
    small = np.asarray(inpainting.shrink(jnp.asarray(MASK), size))
    np.testing.assert_array_equal(small, MASK[:, rows][:, :, ::columns])
    assert small.dtype == np.uint8


def test_beside_z_t_lie_the_latent_and_the_mask():
    latent = _image(1, 2, 4, 6, 3)
    told = np.asarray(jax.jit(inpainting.beside)(latent, MASK))
    assert told.shape == (2, 4, 6, 4) and set(np.unique(told[..., 3])) == {-1, 1}
    np.testing.assert_array_equal(told[..., :3], latent)
    np.testing.assert_array_equal(told[..., 3:] == 1, MASK[:, ::2, ::2] == 1)


def test_filling_keeps_what_is_known():
    image, prediction = _image(2, 2, 8, 12, 3), _image(3, 2, 8, 12, 3)
    filled = inpainting.fill(image, MASK, prediction)
    np.testing.assert_array_equal(filled, np.where(MASK == 1, prediction, image))
