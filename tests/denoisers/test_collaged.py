import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pdm_jax.config import MeshConfig
from pdm_jax.denoisers import collaged
from pdm_jax.errors import UserError
from pdm_jax.networks import ADMUNet, PDMUNet, ViT, define
from pdm_jax.ops.collage import collage, cut, join, pad_half, shifted_positions
from pdm_jax.parallel import image_sharding, make_mesh, on_mesh, replicated
from pdm_jax.types import Cond

PATCH = 8


class Positioned(nnx.Module):
    """An encoder-decoder of one convolution each way that shows where position, code and label go."""

    num_levels = 2

    def __init__(self, rngs: nnx.Rngs):
        self.conv_in, self.conv_out = nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.Conv(16, 3, (3, 3), rngs=rngs)

    def encode(self, z, t, cond):
        h = self.conv_in(z) + _over(cond.position.sum(-1)) + _over(t.astype(jnp.float32) / 100)
        return {"mid": h[:, ::2, ::2] + _over(cond.code.sum(-1)), "skip": h}

    def decode(self, features, t, cond):
        mid = jnp.repeat(jnp.repeat(features["mid"], 2, 1), 2, 2)
        output = self.conv_out(jnp.concatenate([mid, features["skip"]], -1))
        return output * _over(cond.position[:, 0] + cond.code[:, 0] + t.astype(jnp.float32)), output**2


def _over(x):
    return x[:, None, None, None]


@functools.cache
def network():
    definition = define(lambda rngs: Positioned(rngs))
    return definition.bind(definition.init(jax.random.key(0)))


def inputs(n, m, batch=2):
    generator = np.random.default_rng(1)
    z = jnp.asarray(generator.normal(size=(batch, n * PATCH, m * PATCH, 3)), jnp.float32)
    rows, columns = np.meshgrid(np.arange(n + 1.0), np.arange(m + 1.0), indexing="ij")
    position = np.stack([rows, columns, generator.integers(0, 2, rows.shape)], axis=-1)
    cond = Cond(
        code=jnp.asarray(generator.normal(size=(batch, 5)), jnp.float32),
        position=jnp.asarray(np.broadcast_to(position, (batch, *position.shape)), jnp.float32),
    )
    return z, jnp.arange(batch) * 10 + 5, cond


def one_by_one(net, z, t, cond):
    """The definition, patch by patch."""
    patches = cut(pad_half(z, PATCH), PATCH)
    batch, rows, columns = patches.shape[:3]

    def own(i, j, position):
        return Cond(code=cond.code, position=position[:, i, j])

    features = [
        [net.encode(patches[:, i, j], t, own(i, j, cond.position)) for j in range(columns)] for i in range(rows)
    ]
    stacked = jax.tree.map(
        lambda *maps: jnp.stack(maps, 1).reshape(batch, rows, columns, *maps[0].shape[1:]), *itertools.chain(*features)
    )
    joined, shifted = jax.tree.map(collage, stacked), shifted_positions(cond.position)
    outputs = [
        net.decode(jax.tree.map(lambda x, i=i, j=j: x[:, i, j], joined), t, own(i, j, shifted))
        for i in range(rows - 1)
        for j in range(columns - 1)
    ]
    return tuple(
        join(jnp.stack(x, 1).reshape(batch, rows - 1, columns - 1, PATCH, PATCH, 3)) for x in zip(*outputs, strict=True)
    )


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 3)])
def test_it_is_the_patches_one_by_one(n, m):
    arguments = inputs(n, m)
    for got, wanted in zip(collaged(network(), PATCH)(*arguments), one_by_one(network(), *arguments), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 8, 12, 24, 70, 1000])
def test_a_limit_of_patches_changes_nothing(limit):
    arguments = inputs(4, 5)
    wanted = jax.jit(collaged(network(), PATCH))(*arguments)
    got = jax.jit(collaged(network(), PATCH, max_patches=limit))(*arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, wanted)


def test_a_scalar_step_is_enough():
    z, _, cond = inputs(2, 2)
    wanted = collaged(network(), PATCH)(z, jnp.full(2, 7), cond)[0]
    for limit in (None, 2):
        got = collaged(network(), PATCH, max_patches=limit)(z, jnp.full(1, 7), cond)[0]
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("settings", "limit"), [({"space": 4}, None), ({"data": 2, "space": 2}, 6)])
def test_rows_shared_by_devices_change_nothing(settings, limit):
    mesh = make_mesh(MeshConfig(**{"data": 1} | settings), jax.devices()[: np.prod([*settings.values()])])
    arguments = inputs(4, 3, batch=4)
    wanted = collaged(network(), PATCH)(*arguments)
    got = jax.jit(on_mesh(collaged(network(), PATCH, max_patches=limit), mesh))(
        *jax.device_put(arguments, replicated(mesh))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, wanted)


def test_devices_send_half_a_patch_of_rows_and_nothing_else():
    mesh = make_mesh(MeshConfig(data=1, space=4), jax.devices()[:4])
    z, *rest = inputs(4, 3)
    arguments = jax.device_put(z, image_sharding(mesh)), *jax.device_put(rest, replicated(mesh))
    text = jax.jit(on_mesh(collaged(network(), PATCH), mesh)).lower(*arguments).compile().as_text()
    sent = [line for line in text.splitlines() if " collective-permute(" in line]
    assert sent and all(f"{PATCH // 2},{3 * PATCH},3]" in line for line in sent)
    assert "all-gather" not in text and "all-to-all" not in text and "all-reduce" not in text


@pytest.mark.parametrize("make", [ADMUNet, PDMUNet])
def test_every_network_with_skips_can_be_collaged(make):
    definition = define(
        lambda rngs: make(
            channels=1, width=32, channel_mult=(1, 1), num_blocks=1, head_dim=32, num_classes=3, rngs=rngs
        )
    )
    net = definition.bind(jax.tree.map(lambda x: jnp.full(x.shape, 0.01, x.dtype), definition.shapes))
    z = jax.random.normal(jax.random.key(0), (2, 2 * PATCH, PATCH, 1))
    output, variance = jax.jit(collaged(net, PATCH))(z, jnp.array([3]), Cond(label=jnp.array([0, 3])))
    assert output.shape == variance.shape == z.shape
    assert bool(jnp.all(jnp.isfinite(output)))


def test_a_network_without_skips_is_refused():
    definition = define(lambda rngs: ViT(channels=3, width=32, depth=1, head_dim=32, rngs=rngs))
    with pytest.raises(UserError, match=r"ViT has no encode: .* choose patch_unet"):
        collaged(definition.bind(definition.shapes), PATCH)


def test_sizes_and_positions_that_do_not_fit_are_refused():
    z, t, cond = inputs(2, 2)
    with pytest.raises(UserError, match="12x16 is not a whole number of 8x8 patches"):
        collaged(network(), PATCH)(z[:, :12], t, cond)
    with pytest.raises(UserError, match="positions are 3x3x3; an image of this size has 2x3x3"):
        collaged(network(), PATCH)(z[:, :8], t, cond)


def test_with_a_limit_each_device_encodes_its_own_images():
    mesh = make_mesh(MeshConfig(data=4), jax.devices()[:4])
    z, t, cond = inputs(2, 2, batch=4)
    arguments = jax.device_put(z, image_sharding(mesh)), t, jax.device_put(cond, replicated(mesh))
    run = jax.jit(on_mesh(collaged(network(), PATCH, max_patches=2), mesh))
    text = run.lower(*arguments).compile().as_text()
    assert not [name for name in ("all-gather", "all-to-all", "collective-permute", "all-reduce") if name in text]
    wanted = collaged(network(), PATCH)(z, t, cond)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), run(*arguments), wanted)
