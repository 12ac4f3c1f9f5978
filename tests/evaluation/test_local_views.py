"""Random views: what each does, and that each image has its own draw."""

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.evaluation.local_views import _blur, _quantise, crop, degrade, expose, turn

KEY = jax.random.key(0)


def images(count: int = 4, side: int = 16) -> np.ndarray:
    """The same random image `count` times, (count, side, side, 3) in [-1, 1]."""
    image = np.random.default_rng(0).uniform(-1, 1, (1, side, side, 3)).astype(np.float32)
    return jnp.asarray(image.repeat(count, axis=0))


def test_turns_are_by_the_quarters_it_says():
    x, turns = turn(images(8), KEY)
    assert len(set(turns.tolist())) > 2
    for image, count in zip(x, turns.tolist(), strict=True):
        np.testing.assert_array_equal(image, np.rot90(images(1)[0], count))


def test_a_crop_is_a_window_of_the_image():
    """A ramp stays a ramp: flatter, and of values that were there."""
    ramp = jnp.broadcast_to(jnp.linspace(-1, 1, 16)[None, None, :, None], (8, 16, 16, 1))
    x = np.asarray(crop(ramp, KEY))
    slopes = np.diff(x[:, 8, 3:13, 0], axis=-1) / (2 / 15)
    assert np.all(np.abs(x) <= 1 + 1e-6)
    assert np.all((slopes > 0.69) & (slopes < 1.01))
    assert len(np.unique(np.round(slopes[:, 0], 3))) == 8
    np.testing.assert_allclose(slopes, slopes[:, :1].repeat(9, axis=1), atol=1e-4)


def test_exposure_is_linear():
    x = np.asarray(expose(images(), KEY)).reshape(4, -1)
    gains, offsets = np.polynomial.polynomial.polyfit(np.asarray(images(1)).ravel(), x.T, 1)[::-1]
    assert np.all(np.abs(gains - 1) <= 0.1 + 1e-5) and np.all(np.abs(offsets) <= 0.1 + 1e-5)
    assert len(set(np.round(gains, 5))) == 4


def test_degradations_that_are_absent_change_nothing():
    x, strength = degrade(images(64), KEY)
    untouched = np.asarray(strength).max(-1) == 0
    assert 0 < untouched.sum() < 32
    np.testing.assert_allclose(x[untouched], images(64)[untouched], atol=1e-3)
    assert np.all(np.abs(x - images(64))[np.asarray(strength).max(-1) > 0.5].max((1, 2, 3)) > 0.01)
    assert np.all((strength >= 0) & (strength <= 1)) and np.all(np.abs(x) <= 1)


def test_blur_keeps_the_mean_of_a_plane_and_loses_detail():
    deviations = jnp.array([0.0, 0.5, 1.0, 2.0])
    np.testing.assert_allclose(_blur(jnp.full((4, 16, 16, 3), 0.5), deviations), 0.5, atol=1e-6)
    spread = np.asarray(_blur(images(), deviations)).std((1, 2, 3))
    np.testing.assert_allclose(spread[0], np.std(images(1)), rtol=1e-3)
    assert np.all(np.diff(spread) < 0)


def test_quantisation_leaves_multiples_of_the_steps():
    """The lowest coefficient is 8 times a block's mean: an 8x8 block of any value goes to the nearest multiple."""
    planes = jnp.array([0.3, -0.7])[:, None, None, None] * jnp.ones((2, 8, 8, 1))
    step = jnp.array([1.0, 1.0])
    np.testing.assert_allclose(_quantise(planes, step)[:, 0, 0, 0], [0.25, -0.75], atol=1e-3)
    error = np.abs(_quantise(images(), jnp.array([0.0, 0.05, 0.2, 0.8])) - images()).mean((1, 2, 3))
    assert error[0] < 1e-3 and np.all(np.diff(error) > 0)
