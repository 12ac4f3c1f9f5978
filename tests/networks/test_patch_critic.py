"""PatchGAN's critic: its size, what a logit sees, and its norms. Parity is in `ldm_losses`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.networks import PatchCritic, count_params, define


def critic(**settings):
    definition = define(lambda rngs: PatchCritic(**({"width": 4, "num_layers": 2} | settings), rngs=rngs))
    return definition.bind(jax.jit(definition.init)(jax.random.key(0)))


@pytest.mark.parametrize(("num_layers", "size"), [(3, 2_765_633), (2, 663_361)])
def test_sizes_of_the_released(num_layers, size):
    assert count_params(define(lambda rngs: PatchCritic(num_layers=num_layers, rngs=rngs)).shapes) == size


def test_a_logit_for_each_patch():
    network = critic()
    assert network(jnp.zeros((2, 16, 24, 3))).shape == (2, 2, 4, 1)
    assert network(jnp.zeros((1, 12, 12, 3))).shape == (1, 1, 1, 1)
    with pytest.raises(UserError, match=r"2 layers needs images of 12 pixels a side, these are 8x16"):
        network(jnp.zeros((1, 8, 16, 3)))


def test_norms_are_of_the_batch_unless_statistics_are_given():
    network = critic()
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    together, alone = network(images), network(images[:1])
    assert np.abs(together[:1] - alone).max() > 1e-3
    fixed = [(jnp.zeros(width), jnp.ones(width)) for width in (8, 16)]
    np.testing.assert_allclose(network(images, fixed)[:1], network(images[:1], fixed), rtol=1e-4, atol=1e-6)


def test_a_batch_over_devices_is_normalised_as_a_whole():
    network = critic()
    images = jax.random.normal(jax.random.key(1), (8, 16, 16, 3))
    mesh = jax.make_mesh((8,), ("data",))
    placed = jax.device_put(images, jax.NamedSharding(mesh, jax.P("data")))
    found = jax.jit(lambda x: network(x))(placed)
    np.testing.assert_allclose(found, network(images), rtol=1e-4, atol=1e-5)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="critic of 0 layers"):
        critic(num_layers=0)
