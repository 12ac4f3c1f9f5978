"""A denoiser over tiles: what it cuts, what it repeats, and that it is nothing else where pixels stand alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import DiffusionConfig
from pdm_jax.denoisers.guided import guided
from pdm_jax.denoisers.tiled import tiled
from pdm_jax.diffusion import ddim, make_process, sample, timesteps, to_prediction
from pdm_jax.errors import UserError
from pdm_jax.types import Cond, Prediction, Step

PROCESS = make_process(DiffusionConfig())
SHAPE = (2, 10, 12, 3)
Z = jax.random.normal(jax.random.key(0), SHAPE)
COND = Cond(
    label=jnp.array([3, 5]),
    context=jax.random.normal(jax.random.key(1), (2, 4, 6)),
    concat=jax.random.normal(jax.random.key(2), (*SHAPE[:3], 1)),
)


def pointwise(z_t, step, cond):
    """Of pixels alone, and of all that a tile is told."""
    told = cond.label.astype(jnp.float32) + cond.context.mean((1, 2))
    eps = (
        jnp.sin(z_t)
        + cond.concat
        + told.reshape(-1, 1, 1, 1)
        + 0.001 * jnp.reshape(step.t, (-1, 1, 1, 1)).astype(jnp.float32)
    )
    if step.previous is not None:
        eps = eps + step.previous.eps
    return to_prediction(eps, "eps", z_t, step.t, PROCESS, jnp.abs(jnp.cos(z_t)))


@pytest.mark.parametrize("t", [jnp.int32(300), jnp.array([3, 900])])
@pytest.mark.parametrize("max_tiles", [1, 4])
def test_tiles_of_a_pointwise_denoiser_are_the_denoiser(t, max_tiles):
    step = Step(t=t, previous=Prediction(Z, 2 * Z))
    got = jax.jit(tiled(pointwise, PROCESS, 4, 2, max_tiles=max_tiles))(Z, step, COND)
    expected = pointwise(Z, step, COND)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_it_samples_under_guidance_in_one_trace():
    traces = []

    def counted(z_t, step, cond):
        traces.append(z_t.shape)
        return pointwise(z_t, step, cond)

    denoiser = guided(tiled(counted, PROCESS, 4, 4, max_tiles=2), PROCESS, 2.0, COND)
    run = jax.jit(lambda z: sample(denoiser, PROCESS, ddim(), timesteps(3, 1000), z, None, COND).final)
    whole = jax.jit(lambda z: sample(pointwise, PROCESS, ddim(), timesteps(3, 1000), z, None, COND).final)
    np.testing.assert_allclose(run(Z), whole(Z), rtol=1e-3, atol=1e-3)
    assert set(traces) == {(8, 4, 4, 3)} and len(traces) <= 2  # one for its shape, one for its program


def test_positions_are_refused():
    with pytest.raises(UserError, match="cannot be tiled"):
        tiled(pointwise, PROCESS, 4, 2)(Z, Step(t=jnp.int32(3)), Cond(position=jnp.zeros((2, 2, 2, 3))))
