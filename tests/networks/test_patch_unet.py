"""Patch-DM's U-Net: its size, its two conditions, dropout, precision, gradients, and settings that do not fit.

Its outputs are compared with the official ones by the parity kind `patchdm_unet`.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.interop import patch_dm
from pdm_jax.networks import PatchUNet, count_params, define
from pdm_jax.networks.patch_blocks import ResBlock, Signals, make_settings
from pdm_jax.types import Cond
from tests.evaluation.random_weights import make_weights

RELEASED = {"channels": 3, "width": 64, "channel_mult": (1, 2, 4, 8), "num_blocks": 2, "code_dim": 512}
SETTINGS = {
    "channels": 3,
    "width": 32,
    "channel_mult": (1, 1),
    "num_blocks": 1,
    "code_dim": 4,
    "embed_dim": 4,
    "dropout": 0.5,
}
SMALLER = {"channel_mult": (1,)}  # one level: compiles faster
Z = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
T = jnp.array([3, 700])
CODE = jax.random.normal(jax.random.key(2), (2, 4))
POSITION = jnp.array([[0.0, 3.0, 1.0], [2.5, 1.5, 1.0]])
COND = Cond(code=CODE, position=POSITION)


def make(**settings):
    return define(lambda rngs: PatchUNet(**(SETTINGS | settings), rngs=rngs))


def noisy(definition):
    """Parameters without the zeros of the initialisation, so that everything has an effect."""
    leaves, tree = jax.tree.flatten(definition.shapes)
    generator = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [0.2 * generator.standard_normal(leaf.shape, np.float32) for leaf in leaves])


@pytest.fixture(scope="module")
def network():
    """A function (z, t, cond, keys) of a network with two levels, compiled once a structure, and its parameters."""
    definition = make()
    params = noisy(definition)
    apply = jax.jit(lambda z, t, cond, keys=None: definition.bind(params)(z, t, cond, keys=keys)[0])
    return apply, definition, params


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"attn_levels": (2,)}, "unet"),
        ({}, "paper_match"),
    ],
)
def test_full_size_parameter_counts(settings, name, golden):
    counts = json.loads((golden / "keys" / "param_counts_patchdm.json").read_text())
    expected = next(value for key, value in counts.items() if key.startswith(name))
    expected = expected.get("unet_middle_attention_only", expected)["parameters"]
    assert count_params(make(**(RELEASED | {"embed_dim": 512} | settings)).shapes) == expected


def test_starts_by_predicting_zero():
    definition = make(**SMALLER)
    output, variance = jax.jit(lambda p: definition.bind(p)(Z, T, COND))(jax.jit(definition.init)(jax.random.key(0)))
    assert output.shape == Z.shape and not np.any(output) and variance is None


def test_decode_of_encode_is_the_whole(network):
    apply, definition, params = network

    @jax.jit
    def both(z):
        net = definition.bind(params)
        features = net.encode(z, T, COND)
        return features, net.decode(features, T, COND)[0]

    features, output = both(Z)
    np.testing.assert_allclose(output, apply(Z, T, COND), rtol=1e-5, atol=1e-5)
    assert features.mid.shape == (2, 2, 2, 32)
    assert [skip.shape[1] for skip in features.skips] == [4, 4, 2, 2]  # in the order they are made


def test_a_block_scales_and_shifts_by_place_then_scales_by_code():
    """Against the formula of the paper, step by step."""
    settings = make_settings(4, has_code=True, dtype=jnp.float32)
    definition = define(lambda rngs: ResBlock(32, 32, settings, 0, rngs=rngs))
    params = noisy(definition)
    block = definition.bind(params)
    x, place, code = (
        jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 4, 4, 32), (2, 4), (2, 4)])
    )
    h = block.norm_out(block.conv_in(jax.nn.swish(block.norm_in(x))))
    scale, shift = jnp.split(block.modulation(place)[:, None, None], 2, axis=-1)
    h = h * (1 + scale) + shift
    h = h * (1 + block.code_scale(code)[:, None, None])
    expected = x + block.conv_out(jax.nn.swish(h))
    np.testing.assert_allclose(block(x, Signals(place, code, None)), expected, rtol=1e-4, atol=1e-4)


def test_samples_do_not_mix(network):
    apply, _, _ = network
    alone = apply(Z[1:], T[1:], Cond(code=CODE[1:], position=POSITION[1:]))
    np.testing.assert_allclose(alone, apply(Z, T, COND)[1:], rtol=1e-4, atol=1e-4)


def test_every_condition_matters(network):
    apply, _, _ = network
    output = apply(Z, T, COND)
    for t, code, position in (
        (T + 100, CODE, POSITION),
        (T, -CODE, POSITION),
        (T, CODE, POSITION[:, jnp.array([1, 0, 2])]),
        (T, CODE, POSITION + jnp.array([0.5, 0.5, 0.0])[None]),
    ):
        assert np.abs(apply(Z, t, Cond(code=code, position=position)) - output).max() > 1e-3


def test_what_is_dropped_has_no_effect(network):
    apply, _, _ = network
    nowhere = POSITION * jnp.array([1.0, 1.0, 0.0])[None]
    dropped = apply(Z, T, Cond(code=jnp.zeros_like(CODE), position=nowhere))
    moved = apply(Z, T, Cond(code=jnp.zeros_like(CODE), position=nowhere + jnp.array([1.0, 2.0, 0])[None]))
    np.testing.assert_allclose(moved, dropped, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(apply(Z, T, Cond()), dropped, rtol=1e-4, atol=1e-4)
    assert np.abs(apply(Z, T, COND) - dropped).max() > 1e-2


def test_one_step_for_all_samples(network):
    """In sampling t has one entry, whatever the batch."""
    apply, _, _ = network
    one, each = apply(Z, T[:1], COND), apply(Z, jnp.repeat(T[:1], 2), COND)
    np.testing.assert_allclose(one, each, rtol=1e-4, atol=1e-4)


def test_dropout_depends_on_the_key_of_a_sample_alone(network):
    apply, _, _ = network
    keys = jax.random.split(jax.random.key(0), 2)
    dropped = apply(Z, T, COND, keys)
    np.testing.assert_allclose(apply(Z, T, COND, keys), dropped)
    flipped = apply(Z[::-1], T[::-1], Cond(code=CODE[::-1], position=POSITION[::-1]), keys[::-1])
    np.testing.assert_allclose(flipped[::-1], dropped, rtol=1e-4, atol=1e-4)
    for other in (None, jax.random.split(jax.random.key(1), 2)):
        assert np.abs(apply(Z, T, COND, other) - dropped).max() > 1e-2


def test_dropout_keeps_the_mean_and_differs_between_blocks():
    settings = make_settings(4, dropout=0.25, dtype=jnp.float32)
    blocks = [nnx.eval_shape(lambda i=i: ResBlock(32, 32, settings, i, rngs=nnx.Rngs(0))) for i in range(2)]
    keys = jax.random.split(jax.random.key(0), 2)
    one, two = (block._drop(jnp.ones((2, 16, 16, 32)), keys) for block in blocks)
    np.testing.assert_allclose(np.unique(one), [0, 1 / 0.75], rtol=1e-6)
    np.testing.assert_allclose(one.mean((1, 2, 3)), 1, atol=0.03)
    assert np.mean(one != two) > 0.3 and np.mean(one[0] != one[1]) > 0.3


def test_without_codes_there_are_no_layers_of_them():
    shapes = make(code_dim=0).shapes
    names = [key.key for path, _ in jax.tree.leaves_with_path(shapes) for key in path]
    assert "modulation" in names and "code_scale" not in names and "code" not in names
    other_size = make(code_dim=6).shapes
    assert other_size["code"]["dense_in"]["kernel"].shape == (6, 4)
    assert "code" not in make().shapes


def test_bfloat16_keeps_float32_where_it_matters(network):
    apply, _, params = network
    definition = make(dtype=jnp.bfloat16)
    features = jax.eval_shape(lambda p: definition.bind(p).encode(Z, T, COND), params)
    assert {array.dtype for array in jax.tree.leaves(features)} == {jnp.dtype(jnp.bfloat16)}
    rough = jax.jit(lambda p: definition.bind(p)(Z, T, COND)[0])(params)
    exact = apply(Z, T, COND)
    assert rough.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(definition.shapes))
    assert 0 < np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("use_remat", [False, True])
def test_gradients_reach_every_parameter(use_remat):
    definition = make(**SMALLER, code_dim=6, use_remat=use_remat)
    cond, keys = Cond(code=jnp.ones((2, 6)), position=POSITION), jax.random.split(jax.random.key(0), 2)
    gradient = jax.grad(lambda p: jnp.sum(jnp.sin(definition.bind(p)(Z, T, cond, keys=keys)[0])))
    params = noisy(definition)
    assert ("remat" in str(jax.make_jaxpr(gradient)(params))) == use_remat
    if use_remat:  # one compiled program is enough
        assert all(np.any(leaf) for leaf in jax.tree.leaves(jax.jit(gradient)(params)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 31}, "network.width is 31"),
        ({"width": 48}, "multiples of 32"),
        ({"channel_mult": ()}, "channel_mult is empty"),
        ({"num_blocks": 0}, "num_blocks is 0"),
        ({"attn_levels": (1, 2)}, "levels are 0 (finest) to 1"),
        ({"code_dim": -1}, "code_dim is -1"),
        ({"embed_dim": 5}, "embed_dim is 5"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_settings_that_do_not_fit(settings, words):
    with pytest.raises(UserError) as caught:
        nnx.eval_shape(lambda: PatchUNet(**(SETTINGS | settings), rngs=nnx.Rngs(0)))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_inputs_that_do_not_fit(network):
    _, definition, params = network
    with pytest.raises(UserError, match="cannot be halved 1 times"):
        definition.bind(params)(jnp.zeros((1, 5, 4, 3)), T[:1], COND)
    with pytest.raises(UserError, match="codes have 3 numbers; this network takes 4"):
        definition.bind(params)(Z, T, Cond(code=CODE[:, :3]))


def test_outputs_stay_those_that_agreed_with_the_program(golden):
    """The stored output is this network's own, from when it reproduced `patchdm_unet` of the reference to 4e-6.

    The reference itself is too large for the repository; `python tests/parity.py` compares with it.
    """
    definition = make(attn_levels=(1,), code_dim=6)
    empty = jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), definition.shapes)
    shapes = {name: array.shape for name, array in patch_dm.to_official(empty, definition, "unet").items()}
    params = patch_dm.load(make_weights(shapes), definition, "unet")
    cond = Cond(code=jnp.arange(12.0).reshape(2, 6) / 12, position=POSITION)
    z_t = jnp.sin(jnp.arange(96.0)).reshape(2, 4, 4, 3)
    output, _ = jax.jit(lambda params: definition.bind(params)(z_t, T, cond))(params)
    expected = np.load(golden / "patchdm_unet.npz")["output"]
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
