"""PLMS: closed forms of its orders, accuracy against DDIM, and what the loop pays for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import DiffusionConfig
from pdm_jax.diffusion import ddim, make_process, plms, sample, timesteps, to_prediction
from pdm_jax.diffusion.process import expand_to
from pdm_jax.diffusion.resampling import resampled
from pdm_jax.errors import UserError
from pdm_jax.types import Cond, Step

PROCESS = make_process(DiffusionConfig(schedule="ldm_linear", beta_min=0.0015, beta_max=0.0195))
STEPS = timesteps("uniform10", 1000)
SHAPE = (2, 4, 4, 3)
Z = jax.random.normal(jax.random.key(0), SHAPE)


def run(denoiser, sampler, steps=STEPS, **options):
    return jax.jit(lambda z: sample(denoiser, PROCESS, sampler, steps, z, None, Cond(), **options))(Z)


def in_time(formula, shift=0.0):
    """A denoiser whose eps depends on the number of the step alone, which may be a fraction."""

    def denoise(z_t, step, cond):
        number = (STEPS[-1] - step.t).astype(jnp.float32) / 100 + shift
        return to_prediction(jnp.broadcast_to(formula(number), z_t.shape), "eps", z_t, step.t, PROCESS)

    return denoise


def test_an_eps_that_is_linear_in_time_is_integrated_exactly():
    """All orders, and the first step, then give its mean over the step: its value half-way."""
    states = run(in_time(lambda k: 0.3 * k - 1), plms(), every=1).intermediates
    half_way = run(in_time(lambda k: 0.3 * k - 1, shift=0.5), ddim(), every=1).intermediates
    # The last step asks at its own t again only if it is the first one, so that it is no exception.
    np.testing.assert_allclose(states, half_way, rtol=1e-4, atol=1e-4)


def test_the_fourth_order_integrates_cubics():
    """With three remembered, the mean over [k, k + 1] of k^3 - 2 k is exact."""

    def formula(k):
        return 0.01 * k**3 - 0.2 * k

    table, memory = plms().table(PROCESS, STEPS), plms().memory(Z)
    for k in range(10):
        row = {name: column[k] for name, column in table.items()}
        said = in_time(formula)(Z, Step(t=jnp.asarray(row["t"])), Cond())
        corrected, memory = plms().correct(Z, said, memory, row, lambda z, t: in_time(formula)(z, Step(t=t), Cond()))
        mean = 0.01 * ((k + 1) ** 4 - k**4) / 4 - 0.2 * ((k + 1) ** 2 - k**2) / 2
        if k >= 3:
            np.testing.assert_allclose(corrected.eps, mean, rtol=1e-4)
        np.testing.assert_allclose(PROCESS.q_sample(corrected.x0, row["t"], corrected.eps), Z, atol=1e-4)


def test_it_follows_the_flow_better_than_ddim():
    mean, std = 0.3, 0.5

    def gaussian(z_t, step, cond):
        signal, sigma = (expand_to(table, step.t, z_t) for table in (PROCESS.signal, PROCESS.sigma))
        x0 = mean + std**2 * signal / (signal**2 * std**2 + sigma**2) * (z_t - signal * mean)
        return to_prediction(x0, "x0", z_t, step.t, PROCESS)

    def spread(t):
        return np.sqrt(PROCESS.alpha_bar[t] * std**2 + 1 - PROCESS.alpha_bar[t])

    steps = timesteps("uniform20", 1000)
    start = (Z - PROCESS.signal[steps[-1]] * mean) / spread(steps[-1])
    expected = PROCESS.signal[0] * mean + spread(0) * start
    errors = [
        np.abs(run(gaussian, sampler, steps, last_alpha="first").final - expected).max() for sampler in (plms(), ddim())
    ]
    assert errors[0] < 0.3 * errors[1]


@pytest.mark.parametrize("num", [1, 2, 7])
def test_the_denoiser_is_asked_once_a_step_and_twice_in_the_first(num):
    seen = []

    def counted(z_t, step, cond):
        jax.debug.callback(lambda t: seen.append(int(t)), step.t)
        return in_time(lambda k: k)(z_t, step, cond)

    steps = STEPS[-num:]
    jax.block_until_ready(run(counted, plms(), steps).final)
    jax.effects_barrier()
    first = [steps[-1], steps[max(num - 2, 0)]]
    assert sorted(seen[:2]) == sorted(first) and seen[2:] == steps[::-1][1:].tolist()


def test_other_samplers_carry_and_branch_nothing():
    def program(sampler):
        denoise = in_time(lambda k: k)
        return str(jax.make_jaxpr(lambda z: sample(denoise, PROCESS, sampler, STEPS, z, None, Cond()).final)(Z))

    assert "cond[" in program(plms()) and "f32[3,2,4,4,3]" in program(plms())
    assert "cond[" not in program(ddim()) and "f32[3,2,4,4,3]" not in program(ddim())


def test_it_cannot_jump_back():
    with pytest.raises(UserError, match="cannot jump back; use ddim or ancestral"):
        resampled(plms(), 2, 1)
    assert resampled(plms(), 2, 0) == plms()
