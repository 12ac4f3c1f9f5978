"""The mesh and where arrays lie on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError
from pdm_jax.parallel import batch_sharding, make_mesh, param_shardings


def test_what_is_left_goes_to_the_free_axis():
    assert dict(make_mesh(MeshConfig()).shape) == {"data": 8, "fsdp": 1}
    assert dict(make_mesh(MeshConfig(data=-1, fsdp=4)).shape) == {"data": 2, "fsdp": 4}
    assert dict(make_mesh(MeshConfig(data=2, fsdp=-1)).shape) == {"data": 2, "fsdp": 4}
    assert dict(make_mesh(MeshConfig(data=1), jax.devices()[:1]).shape) == {"data": 1, "fsdp": 1}


@pytest.mark.parametrize("config", [MeshConfig(-1, -1), MeshConfig(3, 1), MeshConfig(-1, 3), MeshConfig(0, 1)])
def test_meshes_that_do_not_fit_are_refused(config):
    with pytest.raises(UserError, match=r"config\.mesh is"):
        make_mesh(config)


def test_the_largest_axis_that_divides_lies_over_fsdp():
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    shapes = {
        "kernel": jax.ShapeDtypeStruct((3, 3, 8, 16), jnp.float32),
        "odd": jax.ShapeDtypeStruct((3, 5), jnp.float32),
        "scalar": jax.ShapeDtypeStruct((), jnp.int32),
    }
    specs = jax.tree.map(lambda s: s.spec, param_shardings(mesh, shapes))
    assert specs["kernel"] == PartitionSpec(None, None, None, "fsdp")
    assert specs["odd"] == specs["scalar"] == PartitionSpec()


def test_a_batch_lies_over_both_axes():
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    batch = jax.device_put(np.arange(16).reshape(16, 1), batch_sharding(mesh))
    assert [shard.data.shape for shard in batch.addressable_shards] == [(2, 1)] * 8
