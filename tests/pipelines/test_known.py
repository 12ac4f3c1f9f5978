"""Known regions: the noise they have at each step, feathers, and exactness to the byte."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.diffusion import ddim, sample, timesteps, to_prediction
from pdm_jax.diffusion.resampling import resampled
from pdm_jax.pipelines.known import compose, keep_known
from pdm_jax.types import Cond, Step
from tests.pipelines.formulas import PROCESS

SHAPE = (3, 16, 16, 1)
KEYS = jax.random.split(jax.random.key(0), 3)
IMAGE = jnp.full(SHAPE, 0.5)
LEFT = np.broadcast_to(np.arange(16) < 8, (1, 16, 16))[..., None].astype(np.float32)  # known


def kept(weights, t, index=0, keys=KEYS):
    """What becomes of a state that is 9 everywhere."""
    keep = keep_known(PROCESS, IMAGE[: len(keys)], jnp.asarray(weights), keys)
    return np.asarray(keep(jnp.full((len(keys), *SHAPE[1:]), 9.0), Step(t=jnp.int32(t), index=jnp.int32(index))))


@pytest.mark.parametrize("t", [0, 400, 999])
def test_known_pixels_have_the_noise_of_the_step(t):
    z = kept(LEFT, t)
    np.testing.assert_array_equal(z[:, :, 8:], 9)
    noise = (z[:, :, :8] - 0.5 * PROCESS.signal[t]) / PROCESS.sigma[t]
    assert noise.mean() == pytest.approx(0, abs=0.15)
    assert noise.std() == pytest.approx(1, abs=0.15)


def test_noise_is_fresh_at_each_step_and_in_each_sample_and_of_no_batch():
    first, second = kept(LEFT, 999, 0), kept(LEFT, 999, 1)
    for a, b in [(first, second), (first[1:], first[:-1])]:
        assert abs(np.corrcoef(a[:, :, :8].ravel(), b[:, :, :8].ravel())[0, 1]) < 0.2
    np.testing.assert_array_equal(kept(LEFT, 999, keys=KEYS[jnp.array([2, 0])]), first[[2, 0]])


def test_given_noises_are_those_of_their_steps():
    noises = jax.random.normal(jax.random.key(1), (4, *SHAPE))
    keep = keep_known(PROCESS, IMAGE, jnp.asarray(LEFT), None, noises=noises)
    got = keep(jnp.full(SHAPE, 9.0), Step(t=jnp.int32(400), index=jnp.int32(2)))
    expected = jnp.where(LEFT == 1, PROCESS.q_sample(IMAGE, 400, noises[2]), 9.0)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("t, last_free", [(999, 0), (500, 7), (100, 13), (0, 14)])
def test_a_feather_sets_pixels_free_by_and_by(t, last_free):
    weights = np.broadcast_to(np.linspace(0, 1, 16), (1, 16, 16))[..., None].astype(np.float32)
    free = (kept(weights, t) == 9).all((0, 1, 3))
    np.testing.assert_array_equal(free, np.arange(16) <= last_free)


@pytest.mark.parametrize("num_jumps", [0, 2])
def test_what_a_denoiser_sees_of_it(num_jumps):
    """One that reads the image off the last step, where it has little noise, puts it out."""

    def read(z_t, step, cond):
        return to_prediction(z_t / PROCESS.signal[0], "x0", z_t, step.t, PROCESS)

    sampler, steps = resampled(ddim(), 2, num_jumps), timesteps(6, 1000)
    keep = keep_known(PROCESS, IMAGE, jnp.asarray(LEFT), KEYS)
    made = sample(read, PROCESS, sampler, steps, jnp.zeros(SHAPE), KEYS, Cond(), before_step=keep)
    assert made.num_steps == 6 + 4 * num_jumps
    np.testing.assert_allclose(made.final[:, :, :8], 0.5, atol=0.06)


def test_known_bytes_are_kept_exactly():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    made = 255 - image
    np.testing.assert_array_equal(compose(image, made, np.ones((1, 16, 16, 1), np.float32)), image)
    np.testing.assert_array_equal(compose(image, made, np.zeros((1, 16, 16, 1), np.float32)), made)
    half = compose(image, made, np.full((1, 16, 16, 1), 0.5, np.float32))
    assert np.abs(np.asarray(half).astype(int) - 127.5).max() == 0.5
