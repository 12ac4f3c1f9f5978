"""x0, eps and v say the same: every way round is exact."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdm_jax.config import DiffusionConfig
from pdm_jax.diffusion import from_adm, from_pdm, make_process, to_prediction
from pdm_jax.diffusion.parameterization import eps_from_x0, v_from_x0_eps, x0_from_eps
from pdm_jax.errors import UserError

PROCESS = make_process(DiffusionConfig())


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 999), min_size=2, max_size=2), st.integers(0, 2**31), st.booleans())
def test_round_trips(t, seed, scalar):
    rng = np.random.default_rng(seed)
    x0, eps = (jnp.asarray(rng.normal(size=(2, 2, 2, 3)), jnp.float32) for _ in range(2))
    t = jnp.int32(t[0]) if scalar else jnp.array(t)
    z_t = PROCESS.q_sample(x0, t, eps)
    outputs = {"x0": x0, "eps": eps, "v": v_from_x0_eps(x0, eps, t, PROCESS)}
    signal, sigma = (np.asarray(table)[t].reshape(-1, 1, 1, 1) for table in (PROCESS.signal, PROCESS.sigma))
    for kind, output in outputs.items():
        got = to_prediction(output, kind, z_t, t, PROCESS)
        # A rounding of z_t by 1e-7 is one of x0 by 1e-7 / signal, and of eps by 1e-7 / sigma.
        assert np.all(np.abs(got.x0 - x0) <= 4e-6 / signal), kind
        assert np.all(np.abs(got.eps - eps) <= 4e-6 / sigma), kind
        np.testing.assert_allclose(PROCESS.q_sample(got.x0, t, got.eps), z_t, atol=4e-6)
    np.testing.assert_allclose(
        x0_from_eps(eps_from_x0(x0, z_t, t, PROCESS), z_t, t, PROCESS), x0, atol=2e-6 / np.min(signal)
    )


@pytest.mark.parametrize("kind", ["x0", "eps", "v"])
def test_output_is_float32_and_variance_passes(kind):
    z_t = jnp.ones((1, 2, 2, 1))
    got = to_prediction(z_t.astype(jnp.bfloat16), kind, z_t, jnp.int32(5), PROCESS, z_t.astype(jnp.bfloat16))
    assert {got.x0.dtype, got.eps.dtype, got.variance.dtype} == {jnp.dtype("float32")}
    assert to_prediction(z_t, kind, z_t, jnp.int32(5), PROCESS).variance is None


def test_unknown_kind():
    with pytest.raises(UserError, match="x0, eps, v"):
        to_prediction(jnp.ones((1, 2, 2, 1)), "score", jnp.ones((1, 2, 2, 1)), jnp.int32(5), PROCESS)


def test_variance_conventions():
    """0 is beta_tilde, 1 is beta."""
    assert [from_pdm(v) for v in (1.0, 0.0)] == [0, 1]
    assert [from_adm(v) for v in (-1.0, 1.0)] == [0, 1]
