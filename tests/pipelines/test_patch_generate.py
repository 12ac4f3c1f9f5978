"""Patch-DM through the whole sampling loop: no mesh and no limit of memory changes an image."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.generate import generate, make_generate, tell
from pdm_jax.systems import make_system
from tests import tiny

NUM = 4


def images(*, max_patches=None, mesh=None):
    config = tiny.patch_config(codes={"num": 5}, sample={"max_patches": max_patches, "sampler": "ancestral-small"})
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, prediction="x0"),
        loss=dataclasses.replace(config.loss, target="x0"),
    )
    system = make_system(config)
    params = jax.tree.map(lambda x: x + 0.02, jax.jit(system.init)(jax.random.key(0)))
    devices = 1 if mesh is None else mesh.data * mesh.fsdp * mesh.space
    mesh = make_mesh(mesh or MeshConfig(), jax.devices()[:devices])
    run = make_generate(system, config.sample, mesh)
    codes = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    told = tell(system, "cycle", NUM, codes)
    return np.concatenate(list(generate(run, params, 0, NUM, told, mesh, batch_size=NUM)))


@pytest.fixture(scope="module")
def alone():
    return images()


@pytest.mark.parametrize("settings", [{"mesh": MeshConfig(data=2, fsdp=1, space=2)}, {"max_patches": 5}])
def test_neither_mesh_nor_limit_changes_an_image(alone, settings):
    assert alone.shape == (NUM, 16, 24, 3) and alone.std() > 5
    assert np.abs(alone.astype(int) - images(**settings)).max() <= 1


def test_codes_are_gone_round_and_checked():
    system = make_system(tiny.patch_config(codes={"num": 5}))
    codes = np.arange(32.0).reshape(2, 16)
    np.testing.assert_array_equal(tell(system, "cycle", 3, codes)["code"], codes[[0, 1, 0]])
    with pytest.raises(UserError, match="there are none: give it a latent prior"):
        tell(system, "cycle", 3)
    with pytest.raises(UserError, match="the codes have 8 numbers and this model takes 16"):
        tell(system, "cycle", 3, jnp.zeros((2, 8)))
