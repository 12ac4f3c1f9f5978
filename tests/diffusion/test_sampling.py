"""The sampling loop: what it carries, what it keeps, and that it is one scan."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import DiffusionConfig
from pdm_jax.diffusion import ancestral, ddim, make_process, sample, timesteps, to_prediction
from pdm_jax.errors import UserError
from pdm_jax.types import Cond, Prediction

PROCESS = make_process(DiffusionConfig(num_steps=100))
STEPS = timesteps(10, 100)
SHAPE = (4, 2, 2, 1)


def shrink(z_t, step, cond):
    return to_prediction(0.5 * z_t, "x0", z_t, step.t, PROCESS, jnp.full_like(z_t, 0.5))


def normal(seed, shape=SHAPE):
    return jax.random.normal(jax.random.key(seed), shape)


def keys(n=4):
    return jax.random.split(jax.random.key(9), n)


def run(denoiser=shrink, sampler=None, z=None, **options):
    z = normal(0) if z is None else z
    given = {"keys": keys(len(z)), "cond": Cond(), **options}
    return jax.jit(lambda z: sample(denoiser, PROCESS, sampler or ancestral(), STEPS, z, **given))(z)


def test_it_is_one_scan_that_stores_no_more_than_it_keeps():
    traces = []

    def counted(z_t, step, cond):
        traces.append(1)
        return shrink(z_t, step, cond)

    def whole(z):
        return sample(counted, PROCESS, ancestral(), STEPS, z, keys(), Cond(), every=4)

    jaxpr = jax.make_jaxpr(whole)(normal(0))
    names = [equation.primitive.name for equation in jaxpr.eqns]
    assert names.count("scan") == 1 and "while" not in names
    assert len(traces) == 1
    assert "f32[3,4,2,2,1]" in str(jaxpr) and "f32[10,4,2,2,1]" not in str(jaxpr)


@pytest.mark.parametrize("every", [3, 10, 99])
def test_intermediates(every):
    states = run(every=1).intermediates
    samples = run(every=every)
    wanted = [*range(every - 1, 10, every)]
    wanted += [9] if wanted[-1:] != [9] else []
    np.testing.assert_array_equal(samples.intermediates, states[np.array(wanted)])
    np.testing.assert_array_equal(samples.intermediates[-1], samples.final)
    assert samples.num_steps == 10
    assert run().intermediates is None


def test_a_sample_is_the_same_in_any_batch():
    whole = run().final
    chosen = np.array([2, 0])
    part = run(z=normal(0)[chosen], keys=keys()[chosen]).final
    np.testing.assert_allclose(part, whole[chosen], rtol=1e-6)
    assert np.unique(np.asarray(run(z=jnp.zeros(SHAPE)).final).round(5)).size == 16  # no two alike


def test_given_noises():
    noises = normal(1, (10, *SHAPE))
    got = run(keys=None, noises=noises, every=1).intermediates
    z, table = normal(0), ancestral().table(PROCESS, STEPS)
    row = {name: column[0] for name, column in table.items()}
    prediction = to_prediction(0.5 * z, "x0", z, jnp.int32(99), PROCESS, jnp.full_like(z, 0.5))
    np.testing.assert_allclose(got[0], ancestral().step(z, prediction, row, noises[0]), rtol=1e-5)
    changed = noises.at[-1].set(7.0)  # the last step uses none
    np.testing.assert_array_equal(run(keys=None, noises=changed).final, got[-1])


def test_step_tells_the_moment():
    def moment(name):
        def show(z, step):
            return jnp.full_like(z, getattr(step, name).astype(jnp.float32))

        return run(after_step=show, every=1).intermediates[:, 0, 0, 0, 0].tolist()

    assert moment("t") == STEPS[::-1].tolist()
    assert moment("t_next") == [*STEPS[::-1][1:].tolist(), -1]
    assert moment("index") == list(range(10))
    assert moment("is_last") == [0] * 9 + [1]


def test_previous_is_carried():
    def count(z_t, step, cond):
        return Prediction(step.previous.x0 + 1, step.previous.eps - 1)

    np.testing.assert_array_equal(run(count, ddim()).final, 10)


def test_before_step_changes_what_the_denoiser_sees():
    def keep(z, step):
        return jnp.ones_like(z) * 0.8

    np.testing.assert_allclose(run(sampler=ddim(), before_step=keep).final, 0.4, rtol=1e-6)


def test_step_key():
    def show(z, step):
        return jnp.full_like(z, jax.random.uniform(step.key))

    got = run(after_step=show, every=1, step_key=jax.random.key(5)).intermediates[:, 0, 0, 0, 0]
    assert np.unique(got).size == 10
    np.testing.assert_array_equal(
        got, run(after_step=show, every=1, step_key=jax.random.key(5)).intermediates[:, 0, 0, 0, 0]
    )

    def refuse(z_t, step, cond):
        assert step.key is None
        return shrink(z_t, step, cond)

    run(refuse)


def test_deterministic_samplers_need_no_keys():
    np.testing.assert_array_equal(run(sampler=ddim(), keys=None).final, run(sampler=ddim()).final)


def test_state_is_float32():
    assert run(z=normal(0).astype(jnp.bfloat16)).final.dtype == jnp.float32


def test_mistakes():
    with pytest.raises(UserError, match="give it keys"):
        run(keys=None)
    with pytest.raises(UserError, match="at least 1"):
        run(every=0)
    with pytest.raises(UserError, match="leave"):
        sample(shrink, PROCESS, ddim(), np.array([0, 100]), normal(0), None, Cond())
