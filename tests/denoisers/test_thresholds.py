"""Thresholds against NumPy's nearest-rank percentile, and the consistency of what they return."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdm_jax.config import DiffusionConfig
from pdm_jax.denoisers.thresholds import absolute_percentile, clipped, dynamic, named, none, static
from pdm_jax.diffusion import make_process, to_prediction
from pdm_jax.errors import UserError
from pdm_jax.types import Cond, Step

PROCESS = make_process(DiffusionConfig())


def _images(seed, scale=2.0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(3, 5, 5, 3)) * scale, jnp.float32)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 50.0, 99.5, 100.0]))
def test_percentile_is_of_the_nearest_rank(seed, percentile):
    x = _images(seed)
    expected = np.percentile(np.abs(x).reshape(3, -1), percentile, axis=1, method="nearest")
    got = absolute_percentile(x, percentile)
    assert got.shape == (3, 1, 1, 1)
    np.testing.assert_array_equal(got[:, 0, 0, 0], expected)


def test_dynamic():
    x = _images(0)
    got = dynamic(90.0)(x)
    s = absolute_percentile(x, 90.0)
    assert np.all(s > 1)
    np.testing.assert_allclose(got, jnp.clip(x / s, -1, 1), rtol=1e-6)
    small = _images(0, 0.1)
    np.testing.assert_array_equal(dynamic(90.0)(small), small)  # never enlarged


def test_static_and_none():
    x = _images(0)
    np.testing.assert_array_equal(static(x), np.clip(x, -1, 1))
    np.testing.assert_array_equal(none(x), x)


@pytest.mark.parametrize("threshold", ["static", "dynamic", static])
def test_clipped_stays_consistent(threshold):
    z_t, step = _images(1), Step(t=jnp.array([3, 300, 900]))

    def denoise(z_t, step, cond):
        return to_prediction(3 * z_t, "x0", z_t, step.t, PROCESS, jnp.full_like(z_t, 0.25))

    got = clipped(denoise, PROCESS, threshold)(z_t, step, Cond())
    assert np.all(np.abs(got.x0) <= 1)
    np.testing.assert_allclose(PROCESS.q_sample(got.x0, step.t, got.eps), z_t, atol=1e-5)
    np.testing.assert_array_equal(got.variance, 0.25)
    assert clipped(denoise, PROCESS, "none") is denoise


def test_the_last_step_may_be_left_alone():
    z_t = _images(1)

    def denoise(z_t, step, cond):
        return to_prediction(3 * z_t, "x0", z_t, step.t, PROCESS)

    for is_last, expected in [(False, jnp.clip(3 * z_t, -1, 1)), (True, 3 * z_t)]:
        step = Step(t=jnp.int32(3), is_last=jnp.bool_(is_last))
        got = clipped(denoise, PROCESS, "static", unclipped_last=True)(z_t, step, Cond())
        np.testing.assert_array_equal(got.x0, expected)


def test_the_percentile_of_a_name():
    x = _images(0)
    np.testing.assert_array_equal(named("dynamic", 60.0)(x), dynamic(60.0)(x))
    assert np.any(named("dynamic", 60.0)(x) != named("dynamic")(x))
    np.testing.assert_allclose(dynamic(100.0)(x), x / jnp.abs(x).max(axis=(1, 2, 3), keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("percentile", [0.0, -5.0, 100.5, float("nan")])
def test_percentiles_that_do_not_exist(percentile):
    with pytest.raises(UserError, match=f"is {percentile:g}; expected above 0 and at most 100"):
        named("dynamic", percentile)


def test_unknown_name():
    with pytest.raises(UserError, match="none, static, dynamic"):
        clipped(lambda *_: None, PROCESS, "hard")
