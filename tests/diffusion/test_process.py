"""The process: tables that fit each other, and distributions against Bayes' rule."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdm_jax.config import DiffusionConfig
from pdm_jax.diffusion.process import expand_to, make_process, respace
from pdm_jax.errors import UserError
from pdm_jax.types import Prediction

PROCESS = make_process(DiffusionConfig())
SHAPE = (4, 2, 2, 3)
T = jnp.array([0, 1, 500, 999])


def _normal(seed: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), SHAPE)


def test_tables_fit_each_other():
    p = PROCESS
    np.testing.assert_allclose(p.signal**2 + p.sigma**2, 1, rtol=1e-15)
    np.testing.assert_allclose(p.snr, (p.signal / p.sigma) ** 2, rtol=1e-9)
    np.testing.assert_allclose(1 - p.alpha_bar / p.alpha_bar_prev, p.beta, rtol=1e-9)
    assert p.alpha_bar.dtype == np.float64
    assert p.posterior_variance[0] == 0
    assert p.posterior_log_variance[0] == p.posterior_log_variance[1] == np.log(p.posterior_variance[1])
    assert np.all(p.posterior_log_variance[1:] < p.log_beta[1:])


def test_first_alpha_as_pdm():
    p = make_process(DiffusionConfig(last_alpha="first"))
    assert p.alpha_bar_prev[0] == p.alpha_bar[0]
    assert p.posterior_variance[0] == pytest.approx(p.beta[0])
    assert p.posterior_log_variance[0] == pytest.approx(p.log_beta[0])


@given(st.integers(1, 999))
def test_posterior_is_bayes_rule(t):
    """N(z_s; signal_s x0, var_s) times N(z_t; sqrt(1 - beta) z_s, beta), as a product of Gaussians of z_s."""
    p, x0, z_t = PROCESS, 0.7, -0.3
    variance = 1 / (1 / (1 - p.alpha_bar_prev[t]) + (1 - p.beta[t]) / p.beta[t])
    prior = np.sqrt(p.alpha_bar_prev[t]) * x0 / (1 - p.alpha_bar_prev[t])
    mean = variance * (prior + np.sqrt(1 - p.beta[t]) * z_t / p.beta[t])
    assert p.posterior_variance[t] == pytest.approx(variance, rel=1e-6)
    assert p.posterior_x0[t] * x0 + p.posterior_z[t] * z_t == pytest.approx(mean, rel=1e-6)


def test_q_sample():
    x0, eps = _normal(0), _normal(1)
    z_t = PROCESS.q_sample(x0, T, eps)
    assert z_t.dtype == jnp.float32
    expected = PROCESS.signal[T][:, None, None, None] * x0 + PROCESS.sigma[T][:, None, None, None] * eps
    np.testing.assert_allclose(z_t, expected, atol=1e-6)
    np.testing.assert_allclose(PROCESS.q_sample(x0, 500, eps)[2], z_t[2], rtol=1e-6)


def test_weights_of_a_reported_bound():
    """Of eps they turn its error into KL(q || p) of two Gaussians that share beta_tilde."""
    p, t, error = PROCESS, 500, 0.3
    shift = p.posterior_x0[t] * error * p.sigma[t] / p.signal[t]  # of the mean, by an error of eps
    assert p.vlb_weights("eps")[t] * error**2 == pytest.approx(shift**2 / (2 * p.posterior_variance[t]), rel=1e-5)
    assert p.vlb_weights("eps")[0] == p.vlb_weights("eps")[1] and p.vlb_weights("x0")[0] == p.vlb_weights("x0")[1]
    with pytest.raises(UserError, match="not of 'v'"):
        p.vlb_weights("v")


def test_p_mean_variance_goes_between_its_ends():
    z_t, x0 = _normal(0), _normal(1)

    def learned(v):
        prediction = Prediction(x0, x0, jnp.full(SHAPE, v))
        return PROCESS.p_mean_variance(prediction, z_t, T)

    mean, variance, log_variance = learned(0.25)
    np.testing.assert_array_equal(mean, PROCESS.q_posterior(x0, z_t, T)[0])
    np.testing.assert_allclose(variance, jnp.exp(log_variance))
    small, large = PROCESS.posterior_log_variance[T], PROCESS.log_beta[T]
    np.testing.assert_allclose(log_variance[:, 0, 0, 0], 0.75 * small + 0.25 * large, rtol=1e-6)
    prediction = Prediction(x0, x0)
    np.testing.assert_allclose(
        PROCESS.p_mean_variance(prediction, z_t, T, "small")[2], learned(0.0)[2][:, :1, :1, :1], rtol=1e-6
    )
    np.testing.assert_allclose(
        PROCESS.p_mean_variance(prediction, z_t, T, "large")[2][1:], learned(1.0)[2][1:, :1, :1, :1], rtol=1e-6
    )


def test_variance_mistakes():
    prediction = Prediction(_normal(0), _normal(1))
    with pytest.raises(UserError, match="predicts no variance"):
        PROCESS.p_mean_variance(prediction, _normal(2), T)
    with pytest.raises(UserError, match="'learned', 'small' or 'large'"):
        PROCESS.p_mean_variance(prediction, _normal(2), T, "medium")


@pytest.mark.parametrize("last_alpha", ["one", "first"])
def test_respace(last_alpha):
    steps = np.array([3, 10, 500])
    spaced = respace(PROCESS, steps, last_alpha)
    np.testing.assert_array_equal(spaced.alpha_bar, PROCESS.alpha_bar[steps])
    np.testing.assert_allclose(np.cumprod(1 - spaced.beta) * spaced.alpha_bar_prev[0], spaced.alpha_bar, rtol=1e-12)
    assert spaced.alpha_bar_prev[0] == (1 if last_alpha == "one" else PROCESS.alpha_bar[0])


def test_respace_to_all_is_the_process():
    spaced = respace(PROCESS, np.arange(1000))
    np.testing.assert_allclose(spaced.posterior_variance, PROCESS.posterior_variance, rtol=1e-8)


@pytest.mark.parametrize("steps", [[], [3, 1], [-1, 2], [0, 1000], [[0, 1]]])
def test_respace_mistakes(steps):
    with pytest.raises(UserError):
        respace(PROCESS, np.array(steps, int))


def test_step_of_snr():
    assert PROCESS.step_of_snr(0.25) == 396
    assert make_process(DiffusionConfig(beta_max=0.025)).step_of_snr(0.25) == 354
    assert [PROCESS.step_of_snr(target) for target in (1e9, 1e-9)] == [0, 999]
    with pytest.raises(UserError, match="above 0"):
        PROCESS.step_of_snr(0)


def test_expand_to():
    table = np.arange(5.0)
    assert expand_to(table, jnp.array([1, 3]), jnp.zeros((2, 4, 4, 1))).shape == (2, 1, 1, 1)
    assert expand_to(table, jnp.int32(3), jnp.zeros((2, 4, 4, 1))) == 3
    assert expand_to(table, 3, jnp.zeros(2)).dtype == jnp.float32


@pytest.mark.parametrize("changes", [{"dtype": "float16"}, {"last_alpha": "zero"}, {"schedule": "none"}])
def test_config_mistakes(changes):
    with pytest.raises(UserError, match=str(next(iter(changes.values())))):
        make_process(dataclasses.replace(DiffusionConfig(), **changes))
