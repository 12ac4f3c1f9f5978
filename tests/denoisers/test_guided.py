"""Guidance: the formula, the doubled batch, the interval, and what stays conditional."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import DiffusionConfig
from pdm_jax.denoisers.guided import guided
from pdm_jax.denoisers.split import split
from pdm_jax.denoisers.thresholds import dynamic
from pdm_jax.diffusion import ddim, make_process, sample, timesteps, to_prediction
from pdm_jax.errors import UserError
from pdm_jax.types import Cond, Prediction, Step

PROCESS = make_process(DiffusionConfig())
SHAPE = (3, 2, 2, 3)
NULL = 10
Z = jax.random.normal(jax.random.key(0), SHAPE)
COND = Cond(label=jnp.array([1, 2, 3]))


def null(cond):
    return dataclasses.replace(cond, label=jnp.full_like(cond.label, NULL))


def by_label(z_t, step, cond):
    """x0 and variance that depend on the label alone."""
    x0 = jnp.broadcast_to(cond.label.astype(jnp.float32).reshape(-1, 1, 1, 1), z_t.shape)
    return to_prediction(x0 + 0.1 * z_t, "x0", z_t, step.t, PROCESS, x0 / NULL)


def test_guidance_of_eps_is_the_same_image():
    """Up to rounding; the kind that is asked for is formed exactly."""
    step = Step(t=jnp.int32(300))
    of_x0, of_eps = (guided(by_label, PROCESS, 3.0, null, kind=kind)(Z, step, COND) for kind in ("x0", "eps"))
    np.testing.assert_allclose(of_eps.x0, of_x0.x0, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(of_eps.eps, of_x0.eps, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="guidance of 'v' is not possible; expected 'x0' or 'eps'"):
        guided(by_label, PROCESS, 3.0, null, kind="v")


@pytest.mark.parametrize("t", [jnp.int32(300), jnp.array([3, 300, 900])])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0, jnp.array([1.0, 2.0, 4.0])])
def test_formula(t, scale):
    got = guided(by_label, PROCESS, scale, null)(Z, Step(t=t), COND)
    label = COND.label.astype(jnp.float32).reshape(-1, 1, 1, 1)
    w = jnp.broadcast_to(jnp.asarray(scale), (3,)).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(got.x0, 0.1 * Z + NULL + w * (label - NULL), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(PROCESS.q_sample(got.x0, t, got.eps), Z, atol=1e-4)
    np.testing.assert_allclose(got.variance, jnp.broadcast_to(label / NULL, SHAPE))


def test_one_call_with_a_doubled_batch():
    calls = []

    def record(z_t, step, cond):
        calls.append((z_t.shape, step.t.shape, step.previous.x0.shape, cond.label.tolist()))
        return by_label(z_t, step, cond)

    step = Step(t=jnp.array([3, 300, 900]), previous=Prediction(Z, Z))
    guided(record, PROCESS, 2.0, Cond(label=jnp.full(3, NULL)))(Z, step, COND)
    assert calls == [((6, 2, 2, 3), (6,), (6, 2, 2, 3), [1, NULL, 2, NULL, 3, NULL])]


def test_threshold_comes_before_eps():
    step = Step(t=jnp.int32(300))
    got = guided(by_label, PROCESS, 3.0, null, threshold="dynamic")(Z, step, COND)
    raw = guided(by_label, PROCESS, 3.0, null)(Z, step, COND)
    np.testing.assert_allclose(got.x0, dynamic()(raw.x0), rtol=1e-6)
    np.testing.assert_allclose(PROCESS.q_sample(got.x0, step.t, got.eps), Z, atol=1e-5)


@pytest.mark.parametrize("unguided_last", [False, True])
def test_last_step(unguided_last):
    denoiser = guided(by_label, PROCESS, 3.0, null, threshold="static", unguided_last=unguided_last)
    run = jax.jit(lambda z: sample(denoiser, PROCESS, ddim(), timesteps(3, 1000), z, None, COND, every=1))
    states = run(Z).intermediates
    label = COND.label.astype(jnp.float32).reshape(-1, 1, 1, 1)
    plain = label + 0.1 * states[-2]
    expected = plain if unguided_last else jnp.clip(NULL + 0.1 * states[-2] + 3 * (label - NULL), -1, 1)
    np.testing.assert_allclose(states[-1], expected, rtol=1e-5)


@pytest.mark.parametrize("threshold", ["none", "dynamic"])
@pytest.mark.parametrize("t", [0, 299, 300, 699, 700, 999, [299, 300, 700]])
def test_interval(t, threshold):
    step = Step(t=jnp.array(t))
    inside = (step.t >= 300) & (step.t < 700)
    w = jnp.where(inside, 3.0, 1.0) * jnp.ones(3)
    got = guided(by_label, PROCESS, 3.0, null, threshold=threshold, interval=(300, 700))(Z, step, COND)
    expected = guided(by_label, PROCESS, w, null, threshold=threshold)(Z, step, COND)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_outside_the_interval_a_step_costs_one_evaluation():
    seen = []

    def counted(name):
        def denoise(z_t, step, cond):
            jax.debug.callback(lambda: seen.append((name, len(z_t))))
            return by_label(z_t, step, cond)

        return denoise

    denoiser = split([counted("high"), counted("low")], [500])
    run = jax.jit(lambda t: guided(denoiser, PROCESS, 3.0, null, interval=(300, 700))(Z, Step(t=t), COND))
    for t in (900, 600, 400, 100):
        jax.block_until_ready(run(jnp.int32(t)))
    jax.effects_barrier()
    assert seen == [("high", 3), ("high", 6), ("low", 6), ("low", 3)]


def test_an_interval_of_all_steps_is_none():
    def program(interval):
        denoiser = guided(by_label, PROCESS, 3.0, null, interval=interval)
        return str(jax.make_jaxpr(lambda t: denoiser(Z, Step(t=t), COND))(jnp.int32(3)))

    assert program((0, 1000)) == program(None) != program((0, 999))
    assert "cond[" in program((0, 999)) and "cond[" not in program(None)


def test_mistakes():
    with pytest.raises(UserError, match=r"\['label'\].*\['label', 'code'\]"):
        guided(by_label, PROCESS, 2.0, dataclasses.replace(COND, code=jnp.zeros((3, 4))))(Z, Step(t=jnp.int32(3)), COND)
    with pytest.raises(UserError, match="none, static, dynamic"):
        guided(by_label, PROCESS, 2.0, null, threshold="hard")
    for interval in [(700, 300), (300, 300), (-1, 300), (300, 1001)]:
        with pytest.raises(UserError, match=r"guidance acts on .* expected 0 <= from < to <= 1000"):
            guided(by_label, PROCESS, 2.0, null, interval=interval)
