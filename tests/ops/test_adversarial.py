"""Losses of critics and the weight of what they say."""

import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.ops.adversarial import adaptive_weight, hinge, vanilla

REAL = jnp.array([[2.0, 0.5], [-1.0, 3.0]])[..., None, None]
FAKE = jnp.array([[-2.0, 0.0], [1.0, -0.5]])[..., None, None]


def test_hinge_asks_for_a_margin_of_one():
    real, fake = hinge(REAL, FAKE)
    np.testing.assert_allclose(real, [0.25, 1.0])
    np.testing.assert_allclose(fake, [0.5, 1.25])


def test_vanilla_is_cross_entropy():
    sigmoid = lambda x: 1 / (1 + np.exp(-np.asarray(x)[..., 0, 0]))  # noqa: E731
    real, fake = vanilla(REAL, FAKE)
    np.testing.assert_allclose(real, -np.log(sigmoid(REAL)).mean(1), rtol=1e-6)
    np.testing.assert_allclose(fake, -np.log(1 - sigmoid(FAKE)).mean(1), rtol=1e-6)


def test_the_weight_is_the_ratio_of_norms_within_bounds():
    gradient = jnp.full((3, 3, 2, 1), 2.0)
    assert adaptive_weight(gradient, gradient / 4) == pytest.approx(4, rel=1e-3)
    assert adaptive_weight(gradient, 0 * gradient) == 1e4
    assert adaptive_weight(0 * gradient, gradient) == 0
