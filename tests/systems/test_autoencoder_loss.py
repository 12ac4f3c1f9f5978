"""The losses of first stages by formulas. Their numbers are compared with the program's in `ldm_losses`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import ReconstructionConfig
from pdm_jax.systems.autoencoder_loss import Objective

B, SHAPE = 3, (3, 4, 5, 2)  # images
IMAGES, NOISE = jax.random.normal(jax.random.key(0), (2, *SHAPE))
FEATURES = jax.random.normal(jax.random.key(1), (*SHAPE[:3], 6))
KERNEL = jax.random.normal(jax.random.key(2), (6, 2))
PENALTY = jnp.arange(3.0)
CONFIG = ReconstructionConfig(kl_weight=0.01, codebook_weight=2.0, critic_start=5, critic_weight=0.5)


def to_image(kernel, features):
    return features @ kernel


def critic(images):
    return jnp.sin(images).sum(-1, keepdims=True)


def distance(a, b):
    return jnp.square(a - b).mean((1, 2, 3))


def mean_loss(kernel, features, step, objective):
    loss, terms = objective.of_autoencoder(IMAGES, to_image, kernel, features, PENALTY, critic, jnp.int32(step))
    return loss.mean(), terms


def expected(kernel, features, step, kind, weight):
    """The whole objective, differentiated as it is written, with the adaptive weight given."""
    found = to_image(kernel, features)
    error = jnp.abs(IMAGES - found) + distance(IMAGES, found)[:, None, None, None]
    nll = error.sum() / B if kind == "kl" else error.mean()
    generator = -critic(found).mean()
    penalty = {"kl": 0.01, "vq": 2.0}[kind] * PENALTY.mean()
    return nll + penalty + (weight * generator if step >= 5 else 0)


@pytest.mark.parametrize("kind", ["kl", "vq"])
@pytest.mark.parametrize("step", [4, 5])
def test_value_and_gradients_are_those_of_the_whole_objective(kind, step):
    objective = Objective(kind, CONFIG, distance)
    arguments = (KERNEL, FEATURES)
    (loss, terms), gradients = jax.value_and_grad(mean_loss, (0, 1), has_aux=True)(*arguments, step, objective)
    weight = terms["adaptive_weight"][0]
    wanted, wanted_gradients = jax.value_and_grad(expected, (0, 1))(*arguments, step, kind, weight)
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    for got, want in zip(gradients, wanted_gradients, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    nll = jax.grad(lambda kernel: expected(kernel, FEATURES, 0, kind, 0))(KERNEL)
    generator = jax.grad(lambda kernel: -critic(to_image(kernel, FEATURES)).mean())(KERNEL)
    ratio = jnp.linalg.norm(nll) / (jnp.linalg.norm(generator) + 1e-4)
    np.testing.assert_allclose(weight, 0.5 * ratio, rtol=1e-4)


def test_terms_are_of_each_sample():
    _, terms = mean_loss(KERNEL, FEATURES, 9, Objective("vq", CONFIG, distance))
    assert {name: x.shape for name, x in terms.items()} == dict.fromkeys(
        ("reconstruction", "perceptual", "nll", "codebook", "generator", "adaptive_weight"), (3,)
    )
    found = to_image(KERNEL, FEATURES)
    np.testing.assert_allclose(terms["reconstruction"], np.abs(IMAGES - found).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(terms["nll"], terms["reconstruction"] + terms["perceptual"], rtol=1e-5)


def test_without_a_critic_and_a_distance_pixels_remain():
    objective = Objective("kl", CONFIG)
    loss, terms = objective.of_autoencoder(IMAGES, to_image, KERNEL, FEATURES, PENALTY, None, jnp.int32(9))
    error = np.abs(IMAGES - to_image(KERNEL, FEATURES)).sum((1, 2, 3))
    np.testing.assert_allclose(loss, error + 0.01 * np.asarray(PENALTY), rtol=1e-5)
    assert set(terms) == {"reconstruction", "nll", "kl"}


def test_the_critic_learns_from_its_start_on():
    objective = Objective("kl", CONFIG)
    early, _ = objective.of_critic(critic, IMAGES, NOISE, jnp.int32(4))
    late, terms = objective.of_critic(critic, IMAGES, NOISE, jnp.int32(5))
    np.testing.assert_array_equal(early, 0)
    real, fake = (np.asarray(critic(x)) for x in (IMAGES, NOISE))
    wanted = np.maximum(1 - real, 0).mean((1, 2, 3)) + np.maximum(1 + fake, 0).mean((1, 2, 3))
    np.testing.assert_allclose(late, wanted / 2, rtol=1e-5)
    np.testing.assert_allclose(terms["logits_real"], real.mean((1, 2, 3)), rtol=1e-5, atol=1e-7)
