"""The codebook: which code is nearest, where gradients go, and how much of it is used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.networks.functional import define
from pdm_jax.networks.quantizer import Quantizer, codebook_loss, codebook_use, straight_through

TABLE = jax.random.normal(jax.random.key(0), (7, 3))
Z = jax.random.normal(jax.random.key(1), (2, 4, 5, 3))


@pytest.fixture
def quantizer():
    return define(lambda rngs: Quantizer(7, 3, rngs=rngs)).bind({"embedding": TABLE})


def test_the_nearest_code_is_found_and_looked_up(quantizer):
    indices = quantizer.nearest(Z)
    distances = np.linalg.norm(np.asarray(Z)[..., None, :] - np.asarray(TABLE), axis=-1)
    np.testing.assert_array_equal(indices, distances.argmin(-1))
    np.testing.assert_array_equal(quantizer.lookup(indices), np.asarray(TABLE)[np.asarray(indices)])
    np.testing.assert_array_equal(quantizer.nearest(quantizer.lookup(indices)), indices)


def test_codes_begin_within_their_share():
    table = jax.jit(define(lambda rngs: Quantizer(50, 4, rngs=rngs)).init)(jax.random.key(0))["embedding"]
    assert 0.018 < np.abs(table).max() <= 0.02 and table.shape == (50, 4)


def test_the_gradient_goes_straight_through():
    gradient = jax.grad(lambda z: jnp.sum(straight_through(z, jnp.round(z)) * Z))(Z)
    np.testing.assert_array_equal(gradient, Z)
    np.testing.assert_allclose(straight_through(Z, jnp.round(Z)), np.round(Z), atol=1e-6)


def test_both_sides_are_drawn_to_each_other():
    codes = jnp.zeros_like(Z)
    loss = lambda z, codes: codebook_loss(z, codes, commitment=1.0, codebook=0.25)  # noqa: E731
    np.testing.assert_allclose(loss(Z, codes), 1.25 * np.square(Z).mean((1, 2, 3)), rtol=1e-6)
    towards_z, towards_codes = jax.grad(lambda *x: loss(*x).sum(), (0, 1))(Z, codes)
    scale = 2 / Z[0].size
    np.testing.assert_allclose(towards_z, scale * Z, rtol=1e-5)
    np.testing.assert_allclose(towards_codes, -0.25 * scale * Z, rtol=1e-5)


def test_use_and_perplexity():
    use, perplexity = codebook_use(jnp.array([[[0, 0, 4, 4]]]), 7)
    assert use == 2 and perplexity == pytest.approx(2, rel=1e-5)
    use, perplexity = codebook_use(jnp.arange(7).reshape(1, 7, 1), 7)
    assert use == 7 and perplexity == pytest.approx(7, rel=1e-5)
