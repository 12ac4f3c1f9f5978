"""Named streams differ; draws for a sample depend on its own key only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax import rng
from pdm_jax.config import MeshConfig
from pdm_jax.parallel import image_sharding, make_mesh

KEY = jax.random.key(0)


def data(keys):
    return np.asarray(jax.random.key_data(keys))


def test_streams_of_different_names_differ_and_are_stable():
    a, b = rng.stream(KEY, "noise"), rng.stream(KEY, "label")
    assert not np.array_equal(data(a), data(b))
    np.testing.assert_array_equal(data(a), data(rng.stream(KEY, "noise")))


def test_a_sample_draws_the_same_in_any_batch():
    keys = rng.sample_keys(KEY, jnp.arange(8))
    part = rng.sample_keys(KEY, jnp.array([5, 2]))
    np.testing.assert_array_equal(data(part), data(keys[jnp.array([5, 2])]))
    for draw in (
        lambda k: rng.normal_each(k, (3, 2)),
        lambda k: rng.randint_each(k, 0, 1000),
        lambda k: rng.bernoulli_each(k, 0.5),
    ):
        np.testing.assert_array_equal(draw(part), draw(keys)[jnp.array([5, 2])])


def test_draws_have_the_right_distribution():
    keys = rng.sample_keys(KEY, jnp.arange(4000))
    noise = rng.normal_each(keys, (4,))
    assert abs(float(noise.mean())) < 0.03 and abs(float(noise.std()) - 1) < 0.03
    t = rng.randint_each(rng.stream_each(keys, "t"), 3, 7)
    np.testing.assert_array_equal(np.unique(t), [3, 4, 5, 6])
    assert abs(float(rng.bernoulli_each(keys, 0.1).mean()) - 0.1) < 0.02


def test_folding_each_key_changes_each_draw():
    keys = rng.sample_keys(KEY, jnp.arange(3))
    assert not np.any(np.all(data(rng.fold_each(keys, 1)) == data(rng.fold_each(keys, 2)), axis=-1))


@pytest.mark.parametrize("config", [MeshConfig(), MeshConfig(data=2, fsdp=4), MeshConfig(data=2, space=4)])
def test_draws_differ_between_devices_and_are_the_same_on_any_mesh(config):
    def draw(keys):
        return rng.normal_each(keys, (8, 4, 1))

    keys = rng.sample_keys(KEY, jnp.arange(8))
    drawn = jax.jit(draw, out_shardings=image_sharding(make_mesh(config)))(keys)
    np.testing.assert_array_equal(drawn, draw(keys))
    shards = np.stack([np.ravel(shard.data) for shard in drawn.addressable_shards])
    assert len(np.unique(shards, axis=0)) == 8 and len(np.unique(drawn)) == drawn.size
