"""Guidance by gradients where Bayes' rule has a formula: a mixture of two Gaussians, and linear pictures of one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import DiffusionConfig
from pdm_jax.denoisers.steered import classifier_guided, half_squared, image_guided, of_label, to_image
from pdm_jax.diffusion import ddim, make_process, sample, timesteps, to_prediction
from pdm_jax.diffusion.process import expand_to
from pdm_jax.types import Cond, Step

PROCESS = make_process(DiffusionConfig())
SHAPE = (3, 4, 4, 2)
Z = jax.random.normal(jax.random.key(0), SHAPE)
COND = Cond(label=jnp.array([0, 1, 1]))
MEANS, STD = jnp.array([-0.2, 0.3]), 0.5  # of all pixels, by class


def of_class(z_t, step, cond):
    """The best denoiser of pixels from N(MEANS[label], STD^2)."""
    mean = MEANS[cond.label].reshape(-1, 1, 1, 1)
    signal, sigma = (expand_to(table, step.t, z_t) for table in (PROCESS.signal, PROCESS.sigma))
    x0 = mean + STD**2 * signal / (signal**2 * STD**2 + sigma**2) * (z_t - signal * mean)
    return to_prediction(x0, "x0", z_t, step.t, PROCESS)


def classify(z_t, t):
    """The logits of noisy images of the two classes."""
    signal, sigma = (expand_to(table, t, z_t) for table in (PROCESS.signal, PROCESS.sigma))
    variance = signal**2 * STD**2 + sigma**2
    return jnp.stack([-(jnp.square(z_t - signal * mean) / (2 * variance)).sum((1, 2, 3)) for mean in MEANS], -1)


def of_any(z_t, step, cond):
    """The best denoiser of both classes together."""
    shares = jax.nn.softmax(classify(z_t, jnp.broadcast_to(step.t, len(z_t))))
    each = [of_class(z_t, step, Cond(label=jnp.full(len(z_t), i))).x0 for i in range(2)]
    x0 = sum(share.reshape(-1, 1, 1, 1) * x for share, x in zip(shares.T, each, strict=True))
    return to_prediction(x0, "x0", z_t, step.t, PROCESS, jnp.full_like(x0, 0.25))


@pytest.mark.parametrize("t", [jnp.int32(300), jnp.array([3, 300, 900])])
def test_a_classifier_turns_the_denoiser_of_all_into_that_of_a_class(t):
    step = Step(t=t)
    got = classifier_guided(of_any, PROCESS, of_label(classify), 1.0)(Z, step, COND)
    expected = of_class(Z, step, COND)
    np.testing.assert_allclose(got.eps, expected.eps, atol=1e-4)
    np.testing.assert_allclose(PROCESS.q_sample(got.x0, t, got.eps), Z, atol=1e-4)
    np.testing.assert_array_equal(got.variance, 0.25)


def test_scales_of_samples():
    step, plain = Step(t=jnp.int32(500)), of_any(Z, Step(t=jnp.int32(500)), COND)
    scales = jnp.array([0.0, 1.0, 2.0])
    got = classifier_guided(of_any, PROCESS, of_label(classify), scales)(Z, step, COND)
    one = classifier_guided(of_any, PROCESS, of_label(classify), 1.0)(Z, step, COND)
    expected = scales.reshape(-1, 1, 1, 1) * (one.eps - plain.eps)
    np.testing.assert_allclose(got.eps - plain.eps, expected, atol=1e-5)


def shrink(x):
    return x.reshape(len(x), 2, 2, 2, 2, 2).mean((2, 4))


@pytest.mark.parametrize("t", [jnp.int32(300), jnp.array([3, 300, 900])])
def test_a_picture_pulls_by_the_gradient_through_the_denoiser(t):
    factor, target = 0.7, jax.random.normal(jax.random.key(1), (1, 2, 2, 2))

    def linear(z_t, step, cond):
        return to_prediction(factor * z_t, "x0", z_t, step.t, PROCESS)

    got = image_guided(linear, PROCESS, to_image(target, shrink), 2.0)(Z, Step(t=t), COND)
    error = shrink(factor * Z) - target
    gradient = factor * jnp.repeat(jnp.repeat(error, 2, 1), 2, 2) / 4
    expected = linear(Z, Step(t=t), COND).eps + 2 * expand_to(PROCESS.sigma, t, Z) * gradient
    np.testing.assert_allclose(got.eps, expected, rtol=1e-4, atol=1e-4)


def test_another_distance_is_asked_of_the_transformed_and_the_picture():
    target = jnp.ones((1, 2, 2, 2))
    distance = to_image(target, shrink, compare=lambda a, b: jnp.abs(a - b).sum((1, 2, 3)))
    np.testing.assert_allclose(distance(Z), jnp.abs(shrink(Z) - target).sum((1, 2, 3)))
    np.testing.assert_allclose(half_squared(Z, 3 * Z), 2 * jnp.square(Z).sum((1, 2, 3)), rtol=1e-6)


def test_samples_come_near_to_the_picture():
    target = jnp.where(jnp.arange(2) == 0, 0.8, -0.8).reshape(1, 2, 1, 1) * jnp.ones((1, 2, 2, 2))

    def run(denoiser):
        def whole(z):
            return sample(denoiser, PROCESS, ddim(), timesteps(20, 1000), z, None, COND).final

        return shrink(jax.jit(whole)(Z))

    free, pulled = run(of_any), run(image_guided(of_any, PROCESS, to_image(target, shrink), 40.0))
    assert half_squared(pulled, target).max() < 0.3 * half_squared(free, target).min()
