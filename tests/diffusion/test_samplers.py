"""Samplers on data whose best denoiser is known: Gaussian pixels, for which every answer has a formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdm_jax.config import DiffusionConfig
from pdm_jax.diffusion import ancestral, ddim, ddim_inverse, make_process, sample, timesteps, to_prediction
from pdm_jax.diffusion.process import expand_to
from pdm_jax.errors import UserError
from pdm_jax.types import Cond, Prediction

PROCESS = make_process(DiffusionConfig())
MEAN, STD = 0.3, 0.5
SHAPE = (2, 4, 4, 3)


def gaussian(z_t, step, cond):
    """The best denoiser of pixels from N(MEAN, STD^2), with a variance half-way."""
    signal, sigma = (expand_to(table, step.t, z_t) for table in (PROCESS.signal, PROCESS.sigma))
    x0 = MEAN + STD**2 * signal / (signal**2 * STD**2 + sigma**2) * (z_t - signal * MEAN)
    return to_prediction(x0, "x0", z_t, step.t, PROCESS, jnp.full_like(x0, 0.5))


def run(sampler, steps, z, **options):
    steps = timesteps(steps, PROCESS.num_steps)
    keys = jax.random.split(jax.random.key(1), len(z))
    return jax.jit(lambda z: sample(gaussian, PROCESS, sampler, steps, z, keys, Cond(), **options).final)(z)


def normal(seed, shape=SHAPE):
    return jax.random.normal(jax.random.key(seed), shape)


def test_ddim_follows_the_flow():
    """The probability flow of a Gaussian stretches it: (z - signal mean) / std of z stays constant."""
    z = normal(0)
    signal, sigma = PROCESS.signal[-1], PROCESS.sigma[-1]
    expected = MEAN + STD * (z - signal * MEAN) / np.sqrt(signal**2 * STD**2 + sigma**2)
    fine, coarse = (np.abs(run(ddim(), n, z) - expected).max() for n in (500, 50))
    assert fine < 0.02
    assert coarse < 0.2


@pytest.mark.parametrize("sampler", [ancestral("learned"), ancestral("small"), ancestral("large")])
def test_noisy_samplers_give_the_distribution(sampler):
    x = np.asarray(run(sampler, 400, normal(0, (32, 8, 8, 3))))
    assert x.mean() == pytest.approx(MEAN, abs=0.03)
    assert x.std() == pytest.approx(STD, abs=0.03)


def test_ddim_of_eta_one_is_ancestral():
    z, noises = normal(0), normal(1, (20, *SHAPE))
    np.testing.assert_allclose(
        run(ddim(1.0), 20, z, noises=noises), run(ancestral("small"), 20, z, noises=noises), atol=2e-5
    )


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 2**31))
def test_inversion_round_trip(seed):
    x = MEAN + STD * normal(seed)
    z = run(ddim_inverse(), 500, x)
    np.testing.assert_allclose(run(ddim(), 500, z), x, atol=0.03)
    assert z.std() == pytest.approx(1, abs=0.3)


def test_inversion_is_exact_for_a_constant_eps():
    eps = normal(0)

    def denoise(z_t, step, cond):
        return to_prediction(eps, "eps", z_t, step.t, PROCESS)

    def both(x, last_alpha):
        steps = timesteps("uniform10", 1000)
        z = sample(denoise, PROCESS, ddim_inverse(), steps, x, None, Cond(), last_alpha=last_alpha).final
        return sample(denoise, PROCESS, ddim(), steps, z, None, Cond(), last_alpha=last_alpha).final

    for last_alpha in ("one", "first"):
        x = normal(1)
        np.testing.assert_allclose(jax.jit(both, static_argnums=1)(x, last_alpha), x, atol=1e-4)


def test_inverse_walks_the_sampler_backwards():
    steps = timesteps("ddim10", 1000)
    forward, back = ddim().table(PROCESS, steps), ddim_inverse().table(PROCESS, steps)
    assert forward["t"].tolist() == back["t_next"][::-1].tolist()
    assert forward["t_next"].tolist() == [*back["t"][1:][::-1], -1]


@pytest.mark.parametrize("sampler", [ancestral("learned"), ancestral("large"), ddim(), ddim(1.0)])
@pytest.mark.parametrize(("steps", "last_alpha"), [("10", "one"), ("uniform10", "one"), ("10", "first")])
def test_the_last_step_returns_x0_without_noise(sampler, steps, last_alpha):
    table = sampler.table(PROCESS, timesteps(steps, 1000), last_alpha)
    row = {name: column[-1] for name, column in table.items()}
    prediction = Prediction(normal(0), normal(1), jnp.full(SHAPE, 0.5))
    got = sampler.step(normal(2), prediction, row, jnp.full(SHAPE, 100.0))
    np.testing.assert_array_equal(got, prediction.x0)
    assert row["t_next"] == -1


def test_ldm_goes_to_the_first_alpha():
    table = ddim(0.7).table(PROCESS, timesteps("uniform10", 1000), "first")
    a, a_prev = PROCESS.alpha_bar[1], PROCESS.alpha_bar[0]
    std = 0.7 * np.sqrt((1 - a_prev) / (1 - a) * (1 - a / a_prev))
    assert table["x0"][-1] == pytest.approx(np.sqrt(a_prev))
    assert table["std"][-1] == pytest.approx(std)
    assert table["eps"][-1] == pytest.approx(np.sqrt(1 - a_prev - std**2))


def test_repeated_steps_do_nothing():
    table = ddim().table(PROCESS, np.array([1, 1, 2]))
    t = 1
    assert table["x0"][1] == pytest.approx(PROCESS.signal[t])
    assert table["eps"][1] == pytest.approx(PROCESS.sigma[t])


def test_learned_variance_ends():
    """0 is beta_tilde and 1 is beta, of the strided process."""
    steps = timesteps(10, 1000)
    row = {name: column[3] for name, column in ancestral().table(PROCESS, steps).items()}
    a, a_prev = PROCESS.alpha_bar[steps[6]], PROCESS.alpha_bar[steps[5]]
    beta = 1 - a / a_prev
    for v, variance in ((0.0, beta * (1 - a_prev) / (1 - a)), (1.0, beta)):
        prediction = Prediction(jnp.zeros(SHAPE), jnp.zeros(SHAPE), jnp.full(SHAPE, v))
        got = ancestral().step(jnp.zeros(SHAPE), prediction, row, jnp.ones(SHAPE))
        np.testing.assert_allclose(got, np.sqrt(variance), rtol=1e-5)


@pytest.mark.parametrize("make", [lambda t: ddim(0.7, temperature=t), lambda t: ancestral("small", temperature=t)])
def test_temperature_multiplies_the_noise_alone(make):
    noises = normal(1, (5, *SHAPE))
    np.testing.assert_allclose(
        run(make(0.4), 5, normal(0), noises=noises), run(make(1.0), 5, normal(0), noises=0.4 * noises), atol=1e-5
    )


@pytest.mark.parametrize("share, name", [(0.0, "small"), (1.0, "large")])
def test_a_share_of_beta_goes_from_small_to_large(share, name):
    mixed, named = (ancestral(variance).table(PROCESS, timesteps(10, 1000)) for variance in (share, name))
    np.testing.assert_allclose(mixed["log_low"][:-1], named["log_low"][:-1], rtol=1e-6)


def test_tables_are_float32_and_finite():
    for sampler in (ancestral(), ancestral("large"), ddim(0.5), ddim_inverse()):
        for steps in ("1", "1000", "quad50"):
            for last_alpha in ("one", "first"):
                table = sampler.table(PROCESS, timesteps(steps, 1000), last_alpha)
                assert {c.dtype.name for name, c in table.items() if not name.startswith("t")} == {"float32"}
                assert all(np.all(np.isfinite(column)) for column in table.values())


def test_mistakes():
    with pytest.raises(UserError, match="'learned', 'small' or 'large'"):
        ancestral("medium")
    with pytest.raises(UserError, match=r"a share in \[0, 1\]"):
        ancestral(1.5)
    with pytest.raises(UserError, match="temperature is -1"):
        ddim(0.5, temperature=-1)
    with pytest.raises(UserError, match=r"0 .* to 1"):
        ddim(1.5)
    prediction = Prediction(normal(0), normal(1))
    row = {name: column[0] for name, column in ancestral().table(PROCESS, np.array([0, 5])).items()}
    with pytest.raises(UserError, match="predicts no variance"):
        ancestral().step(normal(2), prediction, row, normal(3))
