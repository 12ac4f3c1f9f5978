"""Maps at the resolution of latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.networks import SpatialRescaler, define

LABELS = jnp.asarray(np.random.default_rng(0).integers(0, 4, (2, 8, 12)), jnp.uint8)


def make(**settings):
    settings = {"in_channels": 4, "out_channels": 3, "num_halvings": 2} | settings
    return define(lambda rngs: SpatialRescaler(**settings, rngs=rngs))


def test_the_share_of_each_class_is_mapped():
    definition = make(use_bias=True)
    params = jax.tree.map(np.asarray, definition.init(jax.random.key(0)))
    shares = (np.asarray(LABELS)[..., None] == np.arange(4)).reshape(2, 2, 4, 3, 4, 4).mean((2, 4))
    expected = shares @ params["mapper"]["kernel"] + params["mapper"]["bias"]
    np.testing.assert_allclose(definition.bind(params)(LABELS), expected, rtol=1e-5, atol=1e-6)


def test_class_numbers_are_one_hot_codes():
    definition = make()
    rescaler = definition.bind(definition.init(jax.random.key(0)))
    np.testing.assert_array_equal(rescaler(LABELS), rescaler(jax.nn.one_hot(LABELS, 4, dtype=jnp.float32)))


def test_without_a_map_of_channels():
    definition = make(out_channels=None, num_halvings=0)
    x = jax.random.normal(jax.random.key(0), (1, 3, 5, 4))
    assert not definition.shapes
    np.testing.assert_array_equal(definition.bind({})(x), x)


def test_what_does_not_fit():
    definition = make()
    rescaler = definition.bind(definition.init(jax.random.key(0)))
    with pytest.raises(UserError, match="has 5 channels; this network takes 4"):
        rescaler(jnp.zeros((1, 8, 8, 5)))
    with pytest.raises(UserError, match="8x6 cannot be halved 2 times; choose sides that divide by 4"):
        rescaler(jnp.zeros((1, 8, 6, 4)))
    with pytest.raises(UserError, match="0 in_channels"):
        make(in_channels=0)
