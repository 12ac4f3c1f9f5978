"""Layers and blocks against their formulas in plain float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.blocks import Attention, BlockSettings, Down, Up
from pdm_jax.networks.layers import GroupNorm

SETTINGS = BlockSettings(time_dim=32, gate_dim=None, norm_eps=1e-3, plain_norm_eps=1e-3, head_dim=64, dtype=jnp.float32)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def group_norm(x: np.ndarray, groups: int, norm_eps: float) -> np.ndarray:
    """Consecutive channels make a group; the variance is biased."""
    x = x.astype(np.float64)
    grouped = x.reshape(*x.shape[:3], groups, -1)
    mean = grouped.mean((1, 2, 4), keepdims=True)
    variance = grouped.var((1, 2, 4), keepdims=True)
    return ((grouped - mean) / np.sqrt(variance + norm_eps)).reshape(x.shape)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (32, 32), (12, 3)])
@pytest.mark.parametrize("norm_eps", [1e-3, 1e-5])
def test_group_norm(channels, groups, norm_eps):
    norm = GroupNorm(channels, norm_eps=norm_eps, num_groups=groups, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = jnp.asarray(normal(1, channels)), jnp.asarray(normal(2, channels))
    x = 3 * normal(0, 2, 5, 4, channels) + 1
    expected = group_norm(x, groups, norm_eps) * normal(1, channels) + normal(2, channels)
    np.testing.assert_allclose(norm(x), expected, rtol=1e-4, atol=1e-5)


def test_group_norm_modulated():
    norm = GroupNorm(64, use_affine=False, norm_eps=1e-3, rngs=nnx.Rngs(0))
    x, scale, shift = normal(0, 2, 4, 4, 64), normal(1, 2, 64), normal(2, 2, 64)
    expected = group_norm(x, 32, 1e-3) * (1 + scale[:, None, None]) + shift[:, None, None]
    np.testing.assert_allclose(norm(x, scale, shift), expected, rtol=1e-4, atol=1e-5)
    assert not jax.tree.leaves(nnx.state(norm))


def test_group_norm_of_bfloat16_has_float32_statistics():
    """Sums over a large image would be far off in bfloat16."""
    norm = GroupNorm(32, norm_eps=1e-3, rngs=nnx.Rngs(0))
    x = jnp.asarray(normal(0, 1, 64, 64, 32) + 2, jnp.bfloat16)
    y = norm(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), group_norm(np.float32(x), 32, 1e-3), rtol=0.01, atol=0.01)


def test_group_norm_refuses_what_does_not_divide():
    with pytest.raises(UserError, match="multiples of 32"):
        GroupNorm(48, norm_eps=1e-3, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("heads", [1, 2])
def test_attention(heads):
    channels = 64 * heads
    attention = Attention(channels, SETTINGS, rngs=nnx.Rngs(0))
    state = jax.tree.map(lambda leaf: jnp.asarray(normal(leaf.size, *leaf.shape)) / 8, nnx.state(attention))
    nnx.update(attention, state)
    x = normal(0, 2, 3, 4, channels)
    p = jax.tree.map(np.float64, nnx.to_pure_dict(state))

    h = group_norm(x, 32, 1e-3) * p["norm"]["scale"] + p["norm"]["bias"]
    qkv = (h @ p["qkv"]["kernel"] + p["qkv"]["bias"]).reshape(2, 12, 3, heads, 64)  # q, k, v first, then heads
    q, k, v = np.moveaxis(qkv, (2, 3), (0, 2))  # each (B, heads, H W, 64)
    logits = q @ k.swapaxes(-1, -2) / 8
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = (weights @ v).swapaxes(1, 2).reshape(2, 3, 4, channels)
    expected = x + mixed @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(attention(jnp.asarray(x)), expected, rtol=1e-4, atol=1e-4)


def test_attention_refuses_a_part_of_a_head():
    with pytest.raises(UserError, match="a multiple of 64"):
        Attention(96, SETTINGS, rngs=nnx.Rngs(0))


def test_downsampling_pads_after():
    """SAME padding of even sizes: 0 before and 1 after, so that output 0 is centred on pixel 1."""
    down = Down(1, 1, SETTINGS, rngs=nnx.Rngs(0))
    kernel = normal(0, 3, 3)
    down.conv.kernel[...] = jnp.asarray(kernel[:, :, None, None])
    x = normal(1, 6, 4)
    padded = np.pad(x, ((0, 1), (0, 1)))
    expected = [[np.sum(padded[i : i + 3, j : j + 3] * kernel) for j in (0, 2)] for i in (0, 2, 4)]
    np.testing.assert_allclose(down(jnp.asarray(x[None, :, :, None]), None)[0, :, :, 0], expected, rtol=1e-4, atol=1e-5)


def test_upsampling_repeats_pixels():
    up = Up(1, 1, SETTINGS, rngs=nnx.Rngs(0))
    up.conv.kernel[...] = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1)
    x = normal(0, 1, 2, 3, 1)
    np.testing.assert_array_equal(up(jnp.asarray(x))[0, :, :, 0], np.kron(x[0, :, :, 0], np.ones((2, 2))))
