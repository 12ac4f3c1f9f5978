"""LDM's U-Net: its conditions, precision, gradients and collage, and the errors of what does not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pdm_jax.denoisers.collaged import collaged
from pdm_jax.errors import UserError
from pdm_jax.networks import LDMUNet, define
from pdm_jax.types import Cond

SETTINGS = {  # hybrid, and a label besides
    "channels": 3,
    "in_channels": 5,
    "width": 32,
    "channel_mult": (1, 2),
    "num_blocks": 1,
    "attn_levels": (1,),
    "num_classes": 3,
    "context_dim": 6,
    "head_dim": 16,
}
PLAIN = {"channel_mult": (1,), "attn_levels": (), "in_channels": None, "num_classes": 0, "context_dim": None}
_keys = jax.random.split(jax.random.key(1), 3)
Z = jax.random.normal(_keys[0], (2, 4, 6, 3))
T = jnp.array([3, 700])
COND = Cond(
    label=jnp.array([1, 3]),
    context=jax.random.normal(_keys[1], (2, 4, 6)),
    concat=jax.random.normal(_keys[2], (2, 4, 6, 2)),
)


def make(**settings):
    return define(lambda rngs: LDMUNet(**(SETTINGS | settings), rngs=rngs))


def noisy(definition):
    """Parameters without the zeros of the initialisation, so that everything has an effect."""
    leaves, tree = jax.tree.flatten(definition.shapes)
    generator = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [0.2 * generator.standard_normal(leaf.shape, np.float32) for leaf in leaves])


@pytest.fixture(scope="module")
def network():
    """A compiled function of (z, t, cond), its parameters and their output."""
    definition = make()
    params = noisy(definition)
    apply = jax.jit(lambda z, t, cond: definition.bind(params)(z, t, cond)[0])
    return apply, definition, params, apply(Z, T, COND)


@pytest.mark.parametrize("name", ["label", "context", "concat", "t", "z"])
def test_every_input_matters(network, name):
    apply, _, _, output = network
    assert output.shape == Z.shape and output.dtype == jnp.float32
    inputs = {"z": Z, "t": T, "cond": COND}
    if name in inputs:
        inputs[name] = inputs[name] + 1
    else:
        changed = getattr(COND, name)[::-1]
        inputs["cond"] = dataclasses.replace(COND, **{name: changed})
    assert np.abs(apply(**inputs) - output).max() > 1e-2


def test_samples_do_not_mix(network):
    apply, _, _, output = network
    turned = apply(Z[::-1], T[::-1], jax.tree.map(lambda x: x[::-1], COND))
    np.testing.assert_allclose(turned[::-1], output, rtol=1e-4, atol=1e-4)


def test_tokens_have_no_order(network):
    apply, _, _, output = network
    turned = dataclasses.replace(COND, context=COND.context[:, ::-1])
    np.testing.assert_allclose(apply(Z, T, turned), output, rtol=1e-4, atol=1e-4)


def test_one_step_and_one_context_for_all_samples(network):
    """In sampling t has one entry, and the null context may, whatever the batch."""
    apply, _, _, _ = network
    cond = dataclasses.replace(COND, context=COND.context[:1])
    each = dataclasses.replace(COND, context=jnp.repeat(COND.context[:1], 2, axis=0))
    np.testing.assert_allclose(apply(Z, T[:1], cond), apply(Z, jnp.repeat(T[:1], 2), each), rtol=1e-4, atol=1e-4)


def test_what_is_joined_comes_after_the_latents(network):
    _, _, params, output = network
    joined = jnp.concatenate([Z, COND.concat], axis=-1)
    same = make(channels=5, in_channels=None)
    head = {name: np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 2)]) for name, x in params["conv_out"].items()}
    cond = dataclasses.replace(COND, concat=None)
    wider = jax.jit(lambda p: same.bind(p)(joined, T, cond)[0])(params | {"conv_out": head})
    np.testing.assert_allclose(wider[..., :3], output, rtol=1e-4, atol=1e-4)


def test_starts_by_predicting_zero():
    definition = make(**PLAIN)
    params = jax.jit(definition.init)(jax.random.key(0))
    output, variance = jax.jit(lambda p: definition.bind(p)(Z, T, Cond()))(params)
    assert output.shape == Z.shape and not np.any(output) and variance is None


def test_initialisation_is_that_of_pytorch():
    params = jax.jit(make(channel_mult=(1,), attn_levels=()).init)(jax.random.key(0))
    transformer = params["middle"]["layers"][1]
    block = transformer["blocks"][0]
    for layer, fan_in in ((block["attend_cross"]["k"], 6), (block["attend_self"]["q"], 32), (block["mlp_out"], 128)):
        for array in layer.values():
            assert 0.7 / fan_in**0.5 < np.abs(array).max() <= 1 / fan_in**0.5
    assert set(block["attend_self"]["q"]) == {"kernel"} and set(block["attend_self"]["out"]) == {"kernel", "bias"}
    assert not any(np.any(array) for array in transformer["dense_out"].values())


@pytest.mark.parametrize("context_dim", [None, 6])
def test_bfloat16_keeps_float32_where_it_matters(context_dim):
    settings = PLAIN | {"context_dim": context_dim}
    cond = Cond(context=COND.context) if context_dim else Cond()
    params = noisy(make(**settings))
    outputs = []
    for dtype in (jnp.float32, jnp.bfloat16):
        definition = make(**settings, dtype=dtype)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(definition.shapes))
        features = jax.eval_shape(lambda p, d=definition: d.bind(p).encode(Z, T, cond), params)
        assert {leaf.dtype for leaf in jax.tree.leaves(features)} == {jnp.dtype(dtype)}
        outputs.append(jax.jit(lambda p, d=definition: d.bind(p)(Z, T, cond)[0])(params))
    output, rough = outputs
    assert rough.dtype == jnp.float32
    assert 0 < np.abs(rough - output).max() < 0.1 * np.abs(output).max()


@pytest.mark.parametrize("use_remat", [False, True])
def test_gradients_reach_every_parameter(use_remat):
    definition = make(channel_mult=(1,), attn_levels=(), num_classes=0, use_remat=use_remat)
    params = noisy(definition)
    gradient = jax.grad(lambda p: jnp.sum(jnp.sin(definition.bind(p)(Z, T, COND)[0])))
    assert ("remat" in str(jax.make_jaxpr(gradient)(params))) == use_remat
    if use_remat:  # one compiled program is enough
        assert all(np.any(leaf) for leaf in jax.tree.leaves(jax.jit(gradient)(params)))


def test_it_can_be_collaged():
    definition = make(num_classes=0)
    z = jax.random.normal(_keys[0], (1, 8, 8, 3))
    cond = Cond(context=COND.context[:1], concat=jnp.concatenate([z, z], axis=-1)[..., :2])
    run = jax.eval_shape(lambda p: collaged(definition.bind(p), 4)(z, T[:1], cond)[0], definition.shapes)
    assert run.shape == z.shape


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"in_channels": 2}, "in_channels is 2; expected the 3 channels"),
        ({"context_dim": 0}, "context_dim is 0"),
        ({"transformer_depth": 0}, "transformer_depth is 0"),
        ({"num_heads": 5}, "a multiple of 5 (heads)"),
        ({"context_dim": None, "head_dim": 24}, "a multiple of 24 (one head)"),
        ({"attention_order": "old"}, "'new' or 'legacy'"),
        ({"attn_levels": (2,)}, "levels are 0 (finest) to 1"),
    ],
)
def test_settings_that_do_not_fit(settings, words):
    with pytest.raises(UserError) as caught:
        nnx.eval_shape(lambda: LDMUNet(**(SETTINGS | settings), rngs=nnx.Rngs(0)))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"context": None}, "takes Cond.context of 6 channels and was given no Cond.context"),
        (
            {"context": COND.context[..., :5]},
            "6 channels and was given Cond.context of 5 channels",
        ),
        ({"concat": None}, "takes Cond.concat of 2 channels and was given no Cond.concat"),
        ({"concat": COND.concat[..., :1]}, "2 channels and was given Cond.concat of 1 channels"),
        ({"concat": COND.concat[:, :2]}, "Cond.concat is 2x6 and the latents are 4x6"),
        ({"label": None}, "has 3 classes and needs labels"),
    ],
)
def test_conditions_that_do_not_fit(network, changes, words):
    _, definition, params, _ = network
    with pytest.raises(UserError) as caught:
        jax.eval_shape(lambda p: definition.bind(p)(Z, T, dataclasses.replace(COND, **changes)), params)
    assert words in str(caught.value)


def test_latents_that_cannot_be_halved(network):
    _, definition, params, _ = network
    with pytest.raises(UserError, match="latents of 5x6 cannot be halved 1 times"):
        jax.eval_shape(lambda p: definition.bind(p)(jnp.zeros((2, 5, 6, 3)), T, COND), params)


def test_a_condition_that_is_not_wanted_is_refused():
    definition = make(**PLAIN)
    with pytest.raises(UserError, match=r"takes no Cond\.concat and was given Cond\.concat of 2 channels"):
        jax.eval_shape(lambda p: definition.bind(p)(Z, T, Cond(concat=COND.concat)), definition.shapes)
