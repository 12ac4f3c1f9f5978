"""Losses against plain NumPy in float64, and what their gradients reach."""

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.config import DiffusionConfig
from pdm_jax.diffusion import make_process, mse_loss, sqrt_snr_loss, to_prediction, vlb_loss
from pdm_jax.types import Prediction

PROCESS = make_process(DiffusionConfig(last_alpha="first"))
T = jnp.array([0, 1, 300, 999])
SHAPE = (4, 2, 2, 3)


def _arrays():
    keys = jax.random.split(jax.random.key(0), 4)
    x0, eps, output = (jax.random.normal(key, SHAPE) for key in keys[:3])
    return x0, eps, output, jax.random.uniform(keys[3], SHAPE)


def test_sqrt_snr_is_a_weighted_pixel_sum():
    x0, _, x0_hat, _ = _arrays()
    got = sqrt_snr_loss(Prediction(x0_hat, x0_hat), x0, T, PROCESS)
    expected = np.sqrt(PROCESS.snr[T]) * np.sum(np.asarray(x0_hat - x0, np.float64) ** 2, axis=(1, 2, 3))
    assert got.shape == (4,) and got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_vlb_against_the_formula():
    """KL in nats as PDM's code has it (with s the predicted variance), 0 at t = 0."""
    x0, eps, x0_hat, v = _arrays()
    z_t = PROCESS.q_sample(x0, T, eps)
    got = vlb_loss(Prediction(x0_hat, x0_hat, v), x0, z_t, T, PROCESS)
    beta, alpha, small = (
        a[T][:, None, None, None] for a in (PROCESS.beta, PROCESS.alpha_bar, PROCESS.posterior_variance)
    )
    v, gap = np.asarray(v, np.float64), np.asarray(x0_hat - x0, np.float64)
    s = np.exp(v * np.log(beta) + (1 - v) * np.log(small))
    g = alpha * beta**2 / (s * (1 - beta) * (1 - alpha) ** 2)
    expected = np.sum(0.5 * (g * gap**2 + np.log(s / small) + small / s - 1), axis=(1, 2, 3))
    assert got[0] == 0
    np.testing.assert_allclose(got[1:], expected[1:], rtol=2e-4)


def test_vlb_trains_the_variance_only():
    x0, eps, x0_hat, v = _arrays()
    z_t = PROCESS.q_sample(x0, T, eps)

    def total(prediction):
        return vlb_loss(prediction, x0, z_t, T, PROCESS).sum()

    gradient = jax.grad(total)(Prediction(x0_hat, eps, v))
    assert not np.any(gradient.x0) and not np.any(gradient.eps)
    assert not np.any(gradient.variance[0])
    assert np.all(np.any(gradient.variance[1:], axis=(1, 2, 3)))


def test_vlb_of_the_truth_is_zero():
    x0, eps, _, _ = _arrays()
    z_t = PROCESS.q_sample(x0, T, eps)
    np.testing.assert_array_equal(vlb_loss(Prediction(x0, eps, jnp.zeros(SHAPE)), x0, z_t, T, PROCESS), 0)


def test_mse_by_target():
    x0, eps, output, _ = _arrays()
    z_t = PROCESS.q_sample(x0, T, eps)
    signal, sigma = (a[T][:, None, None, None] for a in (PROCESS.signal, PROCESS.sigma))
    targets = {"x0": x0, "eps": eps, "v": signal * eps - sigma * x0}
    for kind, target in targets.items():
        got = mse_loss(to_prediction(output, kind, z_t, T, PROCESS), kind, x0, eps, T, PROCESS)
        np.testing.assert_allclose(got, np.mean((output - target) ** 2, axis=(1, 2, 3)), rtol=1e-4, err_msg=kind)
