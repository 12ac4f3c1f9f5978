"""PDM's U-Net: sizes, initialisation, precision, gradients, and the errors of settings that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

from pdm_jax.errors import UserError
from pdm_jax.networks import PDMUNet, count_params, define
from pdm_jax.types import Cond
from tests import full_size

SETTINGS = {"channels": 12, "width": 32, "channel_mult": (1, 2), "num_blocks": 1, "attn_levels": (1,), "num_classes": 3}
SMALLER = {"channel_mult": (1,), "attn_levels": (), "head_dim": 32}  # one level: compiles faster
Z = jax.random.normal(jax.random.key(1), (2, 4, 4, 12))
T = jnp.array([3, 700])
COND = Cond(label=jnp.array([1, 3]))


def make(**settings):
    return define(lambda rngs: PDMUNet(**(SETTINGS | settings), rngs=rngs))


def noisy(definition, seed=0):
    """Parameters without the zeros of the initialisation, so that everything has an effect."""
    leaves, tree = jax.tree.flatten(definition.shapes)
    generator = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [0.1 * generator.standard_normal(leaf.shape, np.float32) for leaf in leaves])


def apply(definition, params, z=Z, t=T, cond=COND):
    return jax.jit(lambda p: definition.bind(p)(z, t, cond))(params)


@pytest.fixture(scope="module")
def network():
    """A definition, parameters and their output."""
    definition = make()
    params = noisy(definition)
    return definition, params, apply(definition, params)


@pytest.mark.parametrize("name", full_size.NAMES)
def test_full_size_parameter_counts(name):
    keys, shapes = full_size.keys(name), full_size.definition(name).shapes
    assert count_params(shapes) == keys["n_params"]
    assert count_params(shapes["variance_head"]) == keys["n_params_variance_network"]


@pytest.mark.parametrize("name", ["church_p8", "imagenet"])
def test_full_size_shapes(name):
    config, definition = full_size.keys(name)["config"], full_size.definition(name)
    grid, channels = config["image_resolution"] // config["patchsize"], 3 * config["patchsize"] ** 2
    z = jax.ShapeDtypeStruct((2, grid, grid, channels), jnp.float32)
    label = jax.ShapeDtypeStruct((2,), jnp.int32)

    def call(params, z, t, label):
        unet, cond = definition.bind(params), Cond(label=label)
        return unet.encode(z, t, cond), unet(z, t, cond)

    features, (output, variance) = jax.eval_shape(call, definition.shapes, z, label, label)
    assert output.shape == variance.shape == z.shape
    assert features.mid.shape[1:3] == (8, 8)


def test_starts_by_predicting_zero():
    definition = make(**SMALLER)
    output, variance = apply(definition, jax.jit(definition.init)(jax.random.key(0)))
    assert output.shape == variance.shape == Z.shape
    np.testing.assert_array_equal(output, 0)
    assert np.all((variance > 0) & (variance < 1)) and np.std(variance) > 0.01


def test_initialisation_is_that_of_keras():
    params = jax.jit(make(**SMALLER).init)(jax.random.key(0))
    kernel, embedding = params["conv_in"]["kernel"], params["label_embedding"]["embedding"]
    limit = np.sqrt(6 / (9 * 12 + 9 * 32))
    assert 0.95 * limit < np.abs(kernel).max() <= limit
    assert 0.045 < np.abs(embedding).max() <= 0.05
    assert not np.any(params["conv_in"]["bias"])
    for stage in (params["encoder"][0], params["decoder"][0]):
        block = stage["block"]
        np.testing.assert_array_equal(block["norm_in"]["scale"], 1)
        assert not np.any(block["conv_out"]["kernel"]) and not np.any(block["modulation"]["kernel"])
        assert np.any(block["conv_in"]["kernel"])
    assert not np.any(params["middle"][0]["attention"]["out"]["kernel"])
    assert np.any(params["variance_head"]["conv_out"]["kernel"])


def test_without_classes_or_variance():
    definition = make(num_classes=0, learn_variance=False)
    output, variance = jax.eval_shape(lambda p: definition.bind(p)(Z, T, Cond()), definition.shapes)
    assert output.shape == Z.shape and variance is None
    assert "label_embedding" not in definition.shapes and "variance_head" not in definition.shapes


def test_encode_then_decode_is_the_call(network):
    definition, params, expected = network

    @jax.jit
    def halves(p):
        unet = definition.bind(p)
        return unet.decode(unet.encode(Z, T, COND), T, COND)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), halves(params), expected)


def test_samples_do_not_mix(network):
    definition, params, (output, variance) = network
    alone = apply(definition, params, Z[1:], T[1:], Cond(label=COND.label[1:]))
    np.testing.assert_allclose(alone[0], output[1:], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone[1], variance[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("class_input", ["add", "gate"])
def test_label_and_time_matter(class_input):
    definition = make(class_input=class_input, **SMALLER)
    params = noisy(definition)
    output, _ = apply(definition, params)
    other_label, _ = apply(definition, params, cond=Cond(label=jnp.array([2, 0])))
    other_time, _ = apply(definition, params, t=T + 100)
    assert np.abs(output - other_label).max() > 1e-3 and np.abs(output - other_time).max() > 1e-3


def test_one_step_for_all_samples():
    """In sampling t has one entry, whatever the batch."""
    definition = make(**SMALLER)
    params = noisy(definition)
    one, _ = apply(definition, params, t=T[:1])
    each, _ = apply(definition, params, t=jnp.repeat(T[:1], 2))
    np.testing.assert_allclose(one, each, rtol=1e-5, atol=1e-6)


def test_bfloat16_keeps_float32_where_it_matters(network):
    _, params, (output, variance) = network
    definition = make(dtype=jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):  # jax's own attention promotes
        rough, rough_variance = apply(definition, params)
        features = jax.eval_shape(lambda p: definition.bind(p).encode(Z, T, COND), params)
    assert rough.dtype == rough_variance.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(definition.shapes))
    assert features.mid.dtype == jnp.bfloat16
    assert 0 < np.abs(rough - output).max() < 0.1 * np.abs(output).max()
    assert np.abs(rough_variance - variance).max() < 0.05


def test_remat_changes_nothing():
    params = noisy(make(**SMALLER))

    def compute(use_remat):
        definition = make(**SMALLER, use_remat=use_remat)
        loss = jax.value_and_grad(lambda p: sum(jnp.sum(jnp.sin(o)) for o in definition.bind(p)(Z, T, COND)))
        assert ("remat" in str(jax.make_jaxpr(loss)(params))) == use_remat
        return jax.jit(loss)(params)

    (kept, kept_grads), (redone, redone_grads) = compute(False), compute(True)
    np.testing.assert_allclose(kept, redone, rtol=1e-5)
    scale = np.abs(ravel_pytree(kept_grads)[0]).max()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * scale, rtol=1e-3), kept_grads, redone_grads)


@pytest.mark.parametrize("stop_time", [False, True])
def test_what_the_variance_trains(stop_time):
    """The features are stopped; the time MLP is reached as in the official program, or not as in the paper."""
    definition = make(**SMALLER, stop_time=stop_time)
    params = noisy(definition)
    grads = jax.jit(jax.grad(lambda p: jnp.sum(definition.bind(p)(Z, T, COND)[1])))(params)
    reached = {name for name, tree in grads.items() if any(np.any(leaf) for leaf in jax.tree.leaves(tree))}
    assert reached == ({"variance_head"} if stop_time else {"variance_head", "time_mlp"})


def test_the_output_does_not_train_the_variance():
    definition = make(**SMALLER)
    params = noisy(definition)
    grads = jax.jit(jax.grad(lambda p: jnp.sum(definition.bind(p)(Z, T, COND)[0] ** 2)))(params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads["variance_head"]))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(grads["label_embedding"]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 31}, "network.width is 31"),
        ({"width": 48}, "multiples of 32"),
        ({"width": 32, "channel_mult": (1, 1)}, "a multiple of 64"),
        ({"channel_mult": (1, 3)}, "a multiple of 64"),
        ({"channel_mult": (2, 2)}, "must start with 1"),
        ({"channel_mult": ()}, "must start with 1"),
        ({"num_blocks": (1, 2, 3)}, "num_blocks has 3 entries"),
        ({"attn_levels": (1, 2)}, "levels are 0 (finest) to 1"),
        ({"class_input": "concat"}, "'add' or 'gate'"),
    ],
)
def test_settings_that_do_not_fit(settings, words):
    with pytest.raises(UserError) as caught:
        nnx.eval_shape(lambda: PDMUNet(**(SETTINGS | settings), rngs=nnx.Rngs(0)))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_inputs_that_do_not_fit(network):
    definition, params, _ = network
    with pytest.raises(UserError, match="5x4 patches cannot be halved 1 times"):
        definition.bind(params)(jnp.zeros((1, 5, 4, 12)), T[:1], COND)
    with pytest.raises(UserError, match="has 3 classes and needs labels"):
        definition.bind(params)(Z, T, Cond())
