"""The bound of images: against closed forms, of split models, in any batch."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import MeshConfig
from pdm_jax.diffusion.process import respace
from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.likelihood import make_bits
from pdm_jax.systems import make_system
from tests import tiny
from tests.pipelines import formulas

PROCESS = formulas.PROCESS
KEY = np.asarray(jax.random.key_data(jax.random.key(0)))


def bound(system, images, *, params=None, first=0, labels=None, sampler="ancestral-small", steps=20, **options):
    config = dataclasses.replace(tiny.config().sample, sampler=sampler)
    measure = make_bits(system, config, make_mesh(MeshConfig()), steps=steps, **options)
    return measure(params or {}, KEY, np.arange(first, first + len(images), dtype=np.int32), images, labels)


def pixels(num=8, shape=(8, 8, 1), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, *shape)).astype(np.uint8)


def test_a_model_that_knows_the_only_image_pays_for_the_last_bin():
    level = 200
    value = np.float32(level / 127.5 - 1)
    got = bound(formulas.system(lambda z_t, t: jnp.full_like(z_t, value)), np.full((8, 8, 8, 1), level, np.uint8))
    spaced = respace(PROCESS, np.linspace(0, 999, 20).round().astype(int))
    inside = math.erf(1 / 255 / math.sqrt(2 * spaced.posterior_variance[1]))
    np.testing.assert_allclose(got.terms[:, :-1], 0, atol=1e-6)
    np.testing.assert_allclose(got.terms[:, -1], -math.log2(inside), rtol=1e-2)  # the program approximates erf
    np.testing.assert_allclose(got.total, got.prior - math.log2(inside), rtol=1e-2)


def test_the_best_model_of_gaussian_pixels():
    mean, std = 0.1, 0.2
    x0 = mean + std * np.random.default_rng(0).normal(size=(8, 64, 64, 1))
    images = ((x0 + 1) * 127.5).round().clip(0, 255).astype(np.uint8)

    def expected_x0(z_t, t):
        alpha_bar = jnp.asarray(PROCESS.alpha_bar, jnp.float32)[t]
        gain = jnp.sqrt(alpha_bar) * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)
        return mean + gain * (z_t - jnp.sqrt(alpha_bar) * mean)

    got = bound(formulas.system(expected_x0, shape=(64, 64, 1)), images)
    # A step's term is half of what the signal-to-noise ratio gains in it, times the error that is left.
    snr = respace(PROCESS, np.linspace(0, 999, 20).round().astype(int)).snr
    error = std**2 / (1 + snr * std**2)
    expected = 0.5 * (snr[:-1] - snr[1:]) * error[1:] / math.log(2)
    np.testing.assert_allclose(got.terms.mean(axis=0)[:-1], expected[::-1], rtol=0.03)
    np.testing.assert_allclose(got.x0_mse.mean(axis=0), error[::-1], rtol=0.03)


def test_a_split_of_twice_a_network_is_the_network():
    single = make_system(tiny.config())
    params = jax.tree.map(lambda x: x + jnp.float32(0.01), jax.jit(single.init)(jax.random.key(0)))
    double = make_system(tiny.config(split={"boundaries": 500}))
    images, labels = pixels(shape=(4, 4, 1)), np.arange(8, dtype=np.int32) % 2
    options = {"labels": labels, "sampler": "ancestral", "steps": 4}
    one = bound(single, images, params=params, **options)
    two = bound(double, images, params={"high": params, "low": params}, **options)
    assert np.all(np.isfinite(one.total)) and len(np.unique(one.total)) == 8
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_an_image_does_not_depend_on_its_batch():
    system, images = formulas.system(lambda z_t, t: 0.5 * z_t), pixels(24)
    whole, part = bound(system, images), bound(system, images[8:16], first=8)
    np.testing.assert_allclose(whole.total[8:16], part.total, rtol=1e-5)
    assert np.all(bound(system, images[8:16], first=0).total != part.total)  # other numbers, other noise


def test_steps_are_those_of_the_config_or_all():
    system = formulas.system(lambda z_t, t: 0.5 * z_t)
    assert bound(system, pixels(), steps=None).terms.shape == (8, 4)
    assert bound(system, pixels(), steps=PROCESS.num_steps).terms.shape == (8, 1000)


def test_the_predicted_image_is_clipped_unless_told_otherwise():
    system = formulas.system(lambda z_t, t: jnp.full_like(z_t, 3))
    white = np.full((8, 8, 8, 1), 255, np.uint8)
    np.testing.assert_allclose(bound(system, white).x0_mse, 0, atol=1e-12)
    np.testing.assert_allclose(bound(system, white, clip="none").x0_mse, 4, rtol=1e-6)


def test_the_variance_is_that_of_the_sampler():
    learned = formulas.system(lambda z_t, t: 0.5 * z_t, variance=lambda z_t: jnp.full_like(z_t, 0.5))
    totals = [
        float(bound(learned, pixels(), sampler=sampler).total.mean())
        for sampler in ("ancestral", "ddim", "ancestral-small", "ancestral-large")
    ]
    assert totals[0] == totals[1] and len(set(totals)) == 3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sampler": "ancestral"}, "the bound needs a variance and this model learned none; set the sampler"),
        ({"sampler": "euler"}, "sampler is 'euler'"),
        ({"steps": "ddim37"}, "nearest that do"),
        ({"clip": "hard"}, "'hard'"),
    ],
)
def test_what_does_not_exist_is_named(options, message):
    with pytest.raises(UserError, match=message):
        bound(formulas.system(lambda z_t, t: z_t), pixels(), **options)
