"""Splitting time: each t gets its part, and sampling computes only that one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdm_jax.denoisers.split import split
from pdm_jax.errors import UserError
from pdm_jax.types import Cond, Prediction, Step

Z = jnp.zeros((3, 2, 2, 1))


def constant(value, variance=None):
    def denoise(z_t, step, cond):
        return Prediction(z_t + value, z_t - value, None if variance is None else jnp.full_like(z_t, variance))

    return denoise


PARTS = split([constant(1.0, 0.1), constant(2.0, 0.2), constant(3.0, 0.3)], [700, 396])


def _expected(t):
    return np.where(np.asarray(t) >= 700, 1.0, np.where(np.asarray(t) >= 396, 2.0, 3.0))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.sampled_from([0, 100, 395, 396, 397, 699, 700, 999]), min_size=3, max_size=3))
def test_each_sample_gets_its_part(t):
    got = PARTS(Z, Step(t=jnp.array(t)), Cond())
    np.testing.assert_array_equal(got.x0[:, 0, 0, 0], _expected(t))
    np.testing.assert_array_equal(got.eps, -got.x0)
    np.testing.assert_allclose(got.variance, 0.1 * got.x0, rtol=1e-6)


@pytest.mark.parametrize("t", [0, 395, 396, 699, 700, 999])
def test_scalar_t(t):
    got = jax.jit(lambda t: PARTS(Z, Step(t=t), Cond()))(jnp.int32(t))
    np.testing.assert_array_equal(got.x0, _expected(t))


def test_scalar_t_computes_one_part():
    calls = []

    def counted(value):
        def denoise(z_t, step, cond):
            jax.debug.callback(lambda: calls.append(value))
            return constant(value)(z_t, step, cond)

        return denoise

    run = jax.jit(lambda t: split([counted(1.0), counted(2.0)], [396])(Z, Step(t=t), Cond()))
    for t in (999, 396, 395):
        jax.block_until_ready(run(jnp.int32(t)))
    jax.effects_barrier()
    assert calls == [1.0, 1.0, 2.0]


@pytest.mark.parametrize("t", [jnp.int32(5), jnp.array([5, 500, 900])])
def test_one_part(t):
    np.testing.assert_array_equal(split([constant(4.0)], [])(Z, Step(t=t), Cond()).x0, 4)


@pytest.mark.parametrize("t", [jnp.int32(5), jnp.array([5, 500, 900])])
def test_different_outputs_are_refused(t):
    with pytest.raises(UserError, match=r"part 1 of a split .* neither a variance"):
        split([constant(1.0, 0.1), constant(2.0)], [396])(Z, Step(t=t), Cond())


@pytest.mark.parametrize(("boundaries", "words"), [([], "need 1"), ([3, 2], "need 1")])
def test_number_of_boundaries(boundaries, words):
    with pytest.raises(UserError, match=words):
        split([constant(1.0), constant(2.0)], boundaries)


@pytest.mark.parametrize("boundaries", [[396, 700], [396, 396]])
def test_order_of_boundaries(boundaries):
    with pytest.raises(UserError, match="descending"):
        split([constant(1.0)] * 3, boundaries)
