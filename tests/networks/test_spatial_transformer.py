"""The spatial transformer against the facts, written out in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.networks import define
from pdm_jax.networks.adm_blocks import Signals
from pdm_jax.networks.spatial_transformer import SpatialTransformer, TransformerSettings

FEATURES, CONTEXT, HEADS = 64, 5, 4
_random = np.random.default_rng(0)
X = _random.standard_normal((2, 3, 4, FEATURES))
TOKENS = _random.standard_normal((2, 6, CONTEXT))


def linear(layer, x):
    return x @ layer["kernel"] + layer.get("bias", 0)


def layer_norm(layer, x):
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return normed * layer["scale"] + layer["bias"]


def group_norm(layer, x):
    groups = x.reshape(len(x), -1, 32, FEATURES // 32)
    mean, var = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    return ((groups - mean) / np.sqrt(var + 1e-6)).reshape(x.shape) * layer["scale"] + layer["bias"]


def attention(layers, x, context):
    q, k, v = linear(layers["q"], x), linear(layers["k"], context), linear(layers["v"], context)
    size, parts = FEATURES // HEADS, []
    for i in range(HEADS):  # the outer factor of the channels
        own = slice(i * size, (i + 1) * size)
        logits = q[..., own] @ k[..., own].swapaxes(1, 2) / math.sqrt(size)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        parts.append(weights / weights.sum(-1, keepdims=True) @ v[..., own])
    return linear(layers["out"], np.concatenate(parts, axis=-1))


def feed_forward(block, x):
    value, gate = np.split(linear(block["mlp_in"], x), 2, axis=-1)
    normal_cdf = (1 + np.vectorize(math.erf)(gate / math.sqrt(2))) / 2
    return linear(block["mlp_out"], value * gate * normal_cdf)


def expected(params, x, context):
    h = linear(params["dense_in"], group_norm(params["norm"], x)).reshape(len(x), -1, FEATURES)
    for _, block in sorted(params["blocks"].items()):
        normed = layer_norm(block["norm_self"], h)
        h = h + attention(block["attend_self"], normed, normed)
        h = h + attention(block["attend_cross"], layer_norm(block["norm_cross"], h), context)
        h = h + feed_forward(block, layer_norm(block["norm_mlp"], h))
    return x + linear(params["dense_out"], h).reshape(x.shape)


@pytest.mark.parametrize("depth", [1, 2])
def test_it_does_what_the_facts_say(depth):
    settings = TransformerSettings(8, False, False, FEATURES, HEADS, "legacy", jnp.float32, CONTEXT, depth)
    definition = define(lambda rngs: SpatialTransformer(FEATURES, settings, rngs=rngs))
    params = jax.tree.map(lambda s: 0.3 * _random.standard_normal(s.shape), definition.shapes)
    single = jax.tree.map(np.float32, params)
    signals = Signals(jnp.zeros((1, 8)), jnp.asarray(TOKENS, jnp.float32))
    output = jax.jit(lambda p: definition.bind(p)(jnp.asarray(X, jnp.float32), signals))(single)
    reference = expected(params, X, TOKENS)
    np.testing.assert_allclose(output, reference, rtol=0, atol=2e-5 * np.abs(reference).max())
