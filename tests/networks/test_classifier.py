"""The classifier of noisy latents."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pdm_jax.errors import UserError
from pdm_jax.networks import LatentClassifier, define

SETTINGS = {"channels": 3, "width": 32, "channel_mult": (1, 1), "num_blocks": 1, "num_classes": 5, "head_dim": 16}
Z = jax.random.normal(jax.random.key(1), (2, 4, 6, 3))
T = jnp.array([3, 700])


def make(**settings):
    return define(lambda rngs: LatentClassifier(**(SETTINGS | settings), rngs=rngs))


def noisy(definition):
    """Random parameters; the gains of norms are about 1, so that everything has an effect."""
    generator = np.random.default_rng(0)

    def draw(path, leaf):
        is_gain = path[-1].key == "scale"
        return is_gain + 0.2 * generator.standard_normal(leaf.shape, np.float32)

    return jax.tree.map_with_path(draw, definition.shapes)


@pytest.mark.parametrize("pool", ["attention", "mean"])
def test_logits_depend_on_latents_and_time(pool):
    definition = make(pool=pool)
    params = noisy(definition)
    classify = jax.jit(lambda z, t: definition.bind(params)(z, t))
    logits = classify(Z, T)
    assert logits.shape == (2, 5) and logits.dtype == jnp.float32
    np.testing.assert_allclose(classify(Z[::-1], T[::-1])[::-1], logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(classify(Z, T[:1])[0], logits[0], rtol=1e-4, atol=1e-4)
    assert np.abs(classify(Z, T + 100) - logits).max() > 1e-2
    assert np.abs(classify(Z + 1, T) - logits).max() > 1e-2


def test_every_place_counts_and_every_parameter_learns():
    definition = make(use_remat=True, dtype=jnp.bfloat16, channel_mult=(1,))
    params = noisy(definition)

    def loss(params, z):
        logits = definition.bind(params)(z, T)
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.array([1, 4])).sum()

    gradient, by_place = jax.jit(jax.grad(loss, (0, 1)))(params, Z)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))
    assert np.all(np.any(by_place, axis=-1)) and by_place.dtype == jnp.float32


def test_starts_undecided():
    definition = make(channel_mult=(1,))
    params = jax.jit(definition.init)(jax.random.key(0))
    assert not np.any(jax.jit(lambda p: definition.bind(p)(Z, T))(params))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_classes": 1}, "a classifier of 1 classes"),
        ({"pool": "max"}, "pool is 'max'"),
        ({"head_dim": 24}, "a multiple of 24"),
    ],
)
def test_settings_that_do_not_fit(settings, words):
    with pytest.raises(UserError, match=words):
        make(**settings)


def test_latents_that_cannot_be_halved():
    definition = make()
    with pytest.raises(UserError, match="latents of 5x4 cannot be halved 1 times"):
        jax.eval_shape(lambda p: definition.bind(p)(jnp.zeros((1, 5, 4, 3)), T[:1]), definition.shapes)
