"""Jumps back to more noise: the walk over the steps, the noise level it keeps to, and that none changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import DiffusionConfig
from pdm_jax.diffusion import ancestral, ddim, make_process, sample, timesteps, to_prediction
from pdm_jax.diffusion.resampling import resampled
from pdm_jax.errors import UserError
from pdm_jax.types import Cond

PROCESS = make_process(DiffusionConfig(num_steps=100))
STEPS = timesteps(8, 100)
KEYS = jax.random.split(jax.random.key(3), 4)


def noise(shape=(4, 2, 2, 1)):
    return jax.random.normal(jax.random.key(0), shape)


def run(sampler, denoiser=None, keys=KEYS, z=None, **options):
    def grey(z_t, step, cond):
        return to_prediction(jnp.zeros_like(z_t), "x0", z_t, step.t, PROCESS, jnp.zeros_like(z_t))

    z = noise() if z is None else z
    return jax.jit(lambda z: sample(denoiser or grey, PROCESS, sampler, STEPS, z, keys, Cond(), every=1, **options))(z)


def walk(jump_length, num_jumps):
    return resampled(ddim(), jump_length, num_jumps).table(PROCESS, STEPS)["t"].tolist()


def test_sections_are_counted_from_the_last_step_and_repeated():
    a, b, c, d, e, f, g, h = STEPS[::-1].tolist()
    assert walk(3, 1) == [a, b, c, d, b, c, d, e, f, g, e, f, g, h]
    assert walk(7, 2) == [*(a, b, c, d, e, f, g) * 3, h]
    assert len(walk(1, 4)) == 8 + 4 * 7


def test_no_jumps_are_the_sampler_itself():
    assert resampled(ddim(), 3, 0) == ddim()
    sampler = ancestral()
    np.testing.assert_array_equal(run(resampled(sampler, 3, 0)).final, run(sampler).final)


@pytest.mark.parametrize("sampler", [ancestral("small"), ddim()])
def test_rows_before_the_first_jump_are_those_of_the_sampler(sampler):
    plain, jumping = run(sampler).intermediates, run(resampled(sampler, 3, 1)).intermediates
    np.testing.assert_array_equal(jumping[:4], plain[:4])
    assert (np.asarray(jumping[4]) != plain[4]).any()


def test_a_jump_ends_with_the_noise_of_the_row_it_goes_to():
    """Where all images are grey, z_t is N(0, sigma_t^2) at each step, if going back adds what is missing."""
    seen = []
    run(
        resampled(ddim(), 3, 2),
        keys=jax.random.split(jax.random.key(3), 64),
        z=PROCESS.sigma[STEPS[-1]] * noise((64, 16, 16, 1)),
        before_step=lambda z, step: (jax.debug.callback(lambda t, s: seen.append((t, s)), step.t, z.std()), z)[1],
    )
    jax.effects_barrier()
    assert len(seen) == 8 + 2 * 3 * 2
    for t, std in seen:
        assert std == pytest.approx(PROCESS.sigma[t], rel=0.03)


def test_noise_is_fresh_for_each_jump_and_sample_and_of_no_batch():
    def states(chosen):
        return run(resampled(ddim(), 7, 2), keys=KEYS[chosen], z=jnp.ones((len(chosen), 2, 2, 1))).intermediates

    whole = np.asarray(states(np.arange(4)))
    assert len(np.unique(whole[[7, 14]].round(6))) == 2 * 4 * 4  # the first states of both jumps
    np.testing.assert_array_equal(states(np.array([2, 0])), whole[:, [2, 0]])


def test_it_stays_one_scan_with_one_call_a_row():
    calls = []

    def counted(z_t, step, cond):
        calls.append(step.is_last)
        return to_prediction(z_t, "x0", z_t, step.t, PROCESS)

    def whole(z):
        return sample(counted, PROCESS, resampled(ddim(), 3, 1), STEPS, z, KEYS, Cond())

    names = [equation.primitive.name for equation in jax.make_jaxpr(whole)(noise()).eqns]
    assert names.count("scan") == 1 and len(calls) == 1
    assert jax.eval_shape(whole, noise()).num_steps == 14


def test_mistakes():
    with pytest.raises(UserError, match="jump length 0 and 1 jumps; expected at least 1"):
        resampled(ddim(), 0, 1)
    with pytest.raises(UserError, match="at least 0"):
        resampled(ddim(), 1, -1)
    with pytest.raises(UserError, match="jump length 8 needs more than 8 steps; this sampler has 8"):
        run(resampled(ddim(), 8, 1))
    with pytest.raises(UserError, match="give it keys"):
        run(resampled(ddim(), 3, 1), keys=None)
