"""The mesh, where arrays lie on it, and which part of a batch a host reads."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError
from pdm_jax.ops.devices import is_partitioned
from pdm_jax.parallel import (
    batch_shardings,
    gathered,
    host_share,
    image_sharding,
    make_mesh,
    on_mesh,
    param_shardings,
    place,
)
from pdm_jax.parallel.placement import Share


def test_what_is_left_goes_to_the_free_axis():
    assert dict(make_mesh(MeshConfig()).shape) == {"data": 8, "fsdp": 1, "space": 1}
    assert dict(make_mesh(MeshConfig(data=-1, fsdp=4)).shape) == {"data": 2, "fsdp": 4, "space": 1}
    assert dict(make_mesh(MeshConfig(data=2, fsdp=-1, space=2)).shape) == {"data": 2, "fsdp": 2, "space": 2}
    assert dict(make_mesh(MeshConfig(data=1), jax.devices()[:1]).shape) == {"data": 1, "fsdp": 1, "space": 1}


@pytest.mark.parametrize(
    "config, message",
    [
        (MeshConfig(-1, -1), "at most one of them -1"),
        (MeshConfig(0, 1), "expected positive sizes"),
        (MeshConfig(3, 1), "the nearest that does is data=8, fsdp=1, space=1"),
        (MeshConfig(-1, 3), "the nearest that does is data=4, fsdp=2, space=1"),
        (MeshConfig(2, -1, 5), "the nearest that does is data=2, fsdp=1, space=4"),
    ],
)
def test_meshes_that_do_not_fit_are_refused(config, message):
    with pytest.raises(UserError, match=rf"config\.mesh is .*{message}"):
        make_mesh(config)


@given(st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from([None, "data", "fsdp", "space"]))
def test_the_mesh_that_is_suggested_fits(sizes, free):
    wanted = dict(zip(("data", "fsdp", "space"), sizes, strict=True)) | ({free: -1} if free else {})
    try:
        make_mesh(MeshConfig(**wanted))
    except UserError as error:
        suggested = dict(pair.split("=") for pair in str(error).rsplit(" is ", 1)[1].split(", "))
        mesh = make_mesh(MeshConfig(**{name: int(size) for name, size in suggested.items()}))
        assert mesh.devices.size == 8 and {name: str(n) for name, n in mesh.shape.items()} == suggested


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


def test_a_batch_lies_over_data_and_fsdp_and_rows_over_space():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, space=2))
    batch = {"image": np.arange(4 * 6).reshape(4, 6, 1, 1), "label": np.arange(4)}
    batch = jax.device_put(batch, batch_shardings(mesh, batch))
    assert [shard.data.shape for shard in batch["image"].addressable_shards] == [(1, 3, 1, 1)] * 8
    assert [shard.data.shape for shard in batch["label"].addressable_shards] == [(1,)] * 8


@dataclasses.dataclass(frozen=True)
class Device:
    """What `host_share` looks at."""

    process_index: int


def mesh_of(processes, data, fsdp, space):
    """A mesh whose devices belong to these processes, in this order."""

    @dataclasses.dataclass(frozen=True)
    class Devices:
        shape: tuple
        devices: np.ndarray

        __hash__ = object.__hash__

    devices = np.array([Device(process) for process in processes]).reshape(data, fsdp, space)
    return Devices({"data": data, "fsdp": fsdp, "space": space}, devices)


@pytest.mark.parametrize(
    "processes, shape, shares",
    [
        ([0, 0, 1, 1], (4, 1, 1), [(0, 2), (1, 2)]),
        ([0, 0, 1, 1], (2, 1, 2), [(0, 2), (1, 2)]),
        ([0, 0, 1, 1], (1, 1, 4), [(0, 1), (0, 1)]),  # rows of the same images: both read all
        ([0, 1, 2, 3], (1, 2, 2), [(0, 2), (0, 2), (1, 2), (1, 2)]),
    ],
)
def test_hosts_read_what_their_devices_need(processes, shape, shares):
    mesh = mesh_of(processes, *shape)
    assert [dataclasses.astuple(host_share(mesh, process)) for process in range(len(shares))] == shares


def test_a_host_with_scattered_samples_is_refused():
    with pytest.raises(UserError, match=r"the batch's shares \[0, 2\] of 4"):
        host_share(mesh_of([0, 1, 0, 1], 4, 1, 1), 0)


def test_a_hosts_samples_are_placed_by_sample_and_row():
    mesh = make_mesh(MeshConfig(data=4, space=2))
    images = np.arange(8 * 4).reshape(8, 4, 1, 1)
    placed = place(images, image_sharding(mesh), Share(0, 1))
    np.testing.assert_array_equal(placed, images)
    for shard in placed.addressable_shards:
        np.testing.assert_array_equal(shard.data, images[shard.index])


def test_parameters_are_gathered_and_their_gradients_cut_up_again():
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    params = {"w": np.arange(8, dtype=np.float32)}
    sharded = jax.device_put(params, param_shardings(mesh, params))
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(gathered(p, mesh)["w"] ** 3)))(sharded)["w"]
    np.testing.assert_allclose(gradient, 3 * params["w"] ** 2)
    assert gradient.sharding.spec == PartitionSpec("fsdp")


def test_a_function_knows_the_mesh_while_it_is_traced():
    def double(x):
        return 2 * x if is_partitioned() else x

    assert jax.jit(on_mesh(double, make_mesh(MeshConfig())))(3) == 6
    assert jax.jit(on_mesh(double, make_mesh(MeshConfig(), jax.devices()[:1])))(3) == 3
    assert not is_partitioned()
