"""The bound: divergences and densities against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdm_jax.config import DiffusionConfig
from pdm_jax.diffusion import bits_per_dim, make_process, timesteps, to_prediction
from pdm_jax.diffusion.likelihood import discretized_log_likelihood, normal_kl, prior_bits, vb_term
from pdm_jax.types import Cond, Prediction, Step

PROCESS = make_process(DiffusionConfig())
SHAPE = (3, 4, 4, 3)
LEVELS = jnp.arange(256, dtype=jnp.float32) / 127.5 - 1


def _pixels(seed):
    return jax.random.randint(jax.random.key(seed), SHAPE, 0, 256).astype(jnp.float32) / 127.5 - 1


@settings(deadline=None, max_examples=20)
@given(*[st.floats(-2, 2, width=32)] * 4)
def test_normal_kl(mean1, log_variance1, mean2, log_variance2):
    got = normal_kl(*(jnp.float32(x) for x in (mean1, log_variance1, mean2, log_variance2)))
    ratio = np.exp(log_variance1 - log_variance2)
    expected = 0.5 * (ratio - 1 - np.log(ratio) + (mean1 - mean2) ** 2 / np.exp(log_variance2))
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("mean", [-1.3, 0.0, 0.9])
def test_the_256_bins_are_a_distribution(mean):
    likelihood = discretized_log_likelihood(LEVELS, jnp.full_like(LEVELS, mean), jnp.full_like(LEVELS, -1.0))
    assert jnp.exp(likelihood).sum() == pytest.approx(1, abs=1e-4)
    inside = np.abs(LEVELS - mean) < 0.1
    density = np.exp(-0.5 * ((LEVELS - mean) / np.exp(-1.0)) ** 2) / np.sqrt(2 * np.pi) / np.exp(-1.0) * 2 / 255
    edges = np.abs(LEVELS) > 0.999
    np.testing.assert_allclose(np.exp(likelihood)[inside & ~edges], density[inside & ~edges], rtol=0.01)


def test_vb_term_is_the_decoder_at_zero_and_a_kl_above():
    x0, z_t = _pixels(0), _pixels(1)
    t = jnp.array([0, 1, 999])
    truth = Prediction(x0, x0, jnp.zeros(SHAPE))
    measure = jax.jit(lambda prediction: vb_term(prediction, x0, z_t, t, PROCESS))
    got = measure(truth)
    assert got[0] > 0
    np.testing.assert_allclose(got[1:], 0, atol=1e-6)
    wrong = Prediction(x0 + 0.1, x0, jnp.zeros(SHAPE))
    assert np.all(measure(wrong)[1:] > 1e-9)


def test_prior_bits():
    got = prior_bits(_pixels(0), PROCESS)
    alpha_bar = PROCESS.alpha_bar[-1]
    square = np.mean(np.asarray(_pixels(0), np.float64) ** 2, axis=(1, 2, 3))
    expected = 0.5 * (-alpha_bar - np.log1p(-alpha_bar) + alpha_bar * square) / np.log(2)
    np.testing.assert_allclose(got, expected, rtol=1e-3)


def test_bits_per_dim():
    steps, keys = timesteps(20, 1000), jax.random.split(jax.random.key(3), 3)

    def denoise(z_t, step, cond):
        assert step.t.shape == ()  # a split model computes one part
        return to_prediction(0.5 * z_t, "x0", z_t, step.t, PROCESS, jnp.full_like(z_t, 0.5))

    measure = jax.jit(lambda x0, keys: bits_per_dim(denoise, PROCESS, steps, x0, keys, Cond()))
    bound = measure(_pixels(0), keys)
    assert bound.terms.shape == bound.x0_mse.shape == bound.eps_mse.shape == (3, 20)
    np.testing.assert_allclose(bound.total, bound.terms.sum(axis=1) + bound.prior, rtol=1e-6)
    assert np.all(measure(_pixels(0), keys[::-1]).total[::2] != bound.total[::2])

    noises = jax.random.normal(jax.random.key(4), (20, *SHAPE))
    of_noises = jax.jit(lambda noises: bits_per_dim(denoise, PROCESS, steps, _pixels(0), None, Cond(), noises=noises))
    z_t = PROCESS.q_sample(_pixels(0), steps[-1], noises[0])
    first = denoise(z_t, Step(t=jnp.int32(steps[-1])), Cond())
    np.testing.assert_allclose(
        of_noises(noises).eps_mse[:, 0], jnp.mean((first.eps - noises[0]) ** 2, axis=(1, 2, 3)), rtol=1e-4
    )


def test_a_better_denoiser_has_a_lower_bound():
    x0, steps = _pixels(0), timesteps(20, 1000)

    @jax.jit
    def bound(error):
        def denoise(z_t, step, cond):
            return to_prediction(x0 + error, "x0", z_t, step.t, PROCESS)

        keys = jax.random.split(jax.random.key(3), 3)
        return bits_per_dim(denoise, PROCESS, steps, x0, keys, Cond(), variance="small").total

    assert np.all(bound(0.0) < bound(0.1)) and np.all(bound(0.1) < bound(0.3))
