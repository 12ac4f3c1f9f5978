"""The local feature network: any size of image, grey or colour, and features of every stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pdm_jax.networks.feature_net import WIDTHS, FeatureNet
from pdm_jax.networks.functional import count_params, define


def network(side: int, channels: int = 3) -> FeatureNet:
    return FeatureNet(side=side, channels=channels, head_features=5, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(("side", "grid"), [(8, 8), (16, 16), (20, 20), (32, 16), (64, 16)])
def test_the_grid_stays_small(side, grid):
    net = network(side)
    out = jax.eval_shape(net, jnp.zeros((2, side, side, 3)))
    assert [s.shape for s in out.stages] == [(2, grid // 2**i, grid // 2**i, w) for i, w in enumerate(WIDTHS)]
    assert (out.pool.shape, out.head.shape) == ((2, sum(WIDTHS)), (2, 5))


def test_a_few_hundred_thousand_parameters():
    shapes = define(lambda rngs: FeatureNet(side=64, channels=3, head_features=5, rngs=rngs)).shapes
    assert 3e5 < count_params(shapes) < 6e5


def test_pool_is_the_mean_of_the_stages():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    out = jax.jit(lambda x: network(8)(x))(x)
    np.testing.assert_allclose(out.pool, jnp.concatenate([s.mean((1, 2)) for s in out.stages], axis=-1), atol=1e-6)


def test_images_of_the_own_size_and_channels_are_only_scaled():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    np.testing.assert_allclose(network(8).prepare(images), images / np.float32(127.5) - 1, atol=1e-6)


def test_other_images_are_brought_to_its_form():
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 16, 3), np.uint8)
    x = network(8, channels=1).prepare(images)
    assert x.shape == (2, 8, 8, 1)
    assert np.std(x) < 0.5 * np.std(images / 127.5)  # averaged, not picked
    grey = network(8).prepare(images[..., :1])
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    plain = network(8, channels=1).prepare(np.full((1, 8, 8, 3), 255, np.uint8))
    np.testing.assert_allclose(plain, 1, atol=1e-6)
