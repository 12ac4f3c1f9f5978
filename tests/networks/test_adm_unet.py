"""ADM's U-Net: sizes, initialisation, precision, gradients, and the errors of settings that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pdm_jax.config import DiffusionConfig
from pdm_jax.denoisers.bind import bind
from pdm_jax.diffusion import from_adm, make_process
from pdm_jax.errors import UserError
from pdm_jax.networks import count_params, define
from pdm_jax.networks.adm_unet import ADMUNet
from pdm_jax.types import Cond, Step

SETTINGS = {
    "channels": 3,
    "width": 32,
    "channel_mult": (1, 1),
    "num_blocks": 1,
    "attn_levels": (1,),
    "num_classes": 3,
    "head_dim": 16,
}
SMALLER = {"channel_mult": (1,), "attn_levels": ()}  # one level: compiles faster
RELEASED = {  # by image size: settings of the class-conditional networks and their size in the paper
    64: ({"width": 192, "channel_mult": (1, 2, 3, 4), "num_blocks": 3, "attn_levels": (1, 2, 3)}, "296M"),
    128: ({"channel_mult": (1, 1, 2, 3, 4), "attn_levels": (2, 3, 4), "num_heads": 4}, "422M"),
    256: ({"channel_mult": (1, 1, 2, 2, 4, 4), "attn_levels": (3, 4, 5)}, "554M"),
    512: ({"channel_mult": (0.5, 1, 1, 2, 2, 4, 4), "attn_levels": (4, 5, 6)}, "559M"),
}
Z = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
T = jnp.array([3, 700])
COND = Cond(label=jnp.array([1, 3]))


def make(**settings):
    return define(lambda rngs: ADMUNet(**(SETTINGS | settings), rngs=rngs))


def noisy(definition):
    """Parameters without the zeros of the initialisation, so that everything has an effect."""
    leaves, tree = jax.tree.flatten(definition.shapes)
    generator = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [0.2 * generator.standard_normal(leaf.shape, np.float32) for leaf in leaves])


def apply(definition, params, z=Z, t=T, cond=COND):
    return jax.jit(lambda p: definition.bind(p)(z, t, cond))(params)


@pytest.fixture(scope="module")
def network():
    """A definition, parameters and their output."""
    definition = make()
    params = noisy(definition)
    return definition, params, apply(definition, params)


@pytest.mark.parametrize("size", [*(pytest.param(size, marks=pytest.mark.slow) for size in (64, 128, 256)), 512])
def test_full_size_parameter_counts(size):
    settings, expected = RELEASED[size]
    settings = {"width": 256, "num_blocks": 2, "num_classes": 1000, "has_null": False, "head_dim": 64, **settings}
    assert f"{count_params(make(**settings).shapes) / 1e6:.0f}M" == expected


def test_starts_by_predicting_zero():
    definition = make(**SMALLER)
    output, variance = apply(definition, jax.jit(definition.init)(jax.random.key(0)))
    assert output.shape == variance.shape == Z.shape
    assert not np.any(output) and not np.any(variance)


def test_initialisation_is_that_of_pytorch():
    params = jax.jit(make(**SMALLER).init)(jax.random.key(0))
    block, attention = params["encoder"][0]["layers"][0], params["middle"]["layers"][1]
    for layer, fan_in in ((block["conv_in"], 9 * 32), (block["modulation"], 128), (attention["qkv"], 32)):
        for array in layer.values():
            assert 0.8 / fan_in**0.5 < np.abs(array).max() <= 1 / fan_in**0.5
    for array in (*block["conv_out"].values(), *attention["out"].values()):
        assert not np.any(array)
    np.testing.assert_array_equal(block["norm_in"]["scale"], 1)
    assert 0.8 < np.std(params["label_embedding"]["embedding"]) < 1.2


def test_samples_do_not_mix(network):
    definition, params, both = network
    alone = apply(definition, params, Z[1:], T[1:], Cond(label=COND.label[1:]))
    for one, two in zip(alone, both, strict=True):
        np.testing.assert_allclose(one, two[1:], rtol=1e-4, atol=1e-4)


def test_label_and_time_matter(network):
    definition, params, (output, _) = network
    other_label, _ = apply(definition, params, cond=Cond(label=jnp.array([2, 0])))
    other_time, _ = apply(definition, params, t=T + 100)
    assert np.abs(output - other_label).max() > 1e-2 and np.abs(output - other_time).max() > 1e-2


@pytest.mark.parametrize("use_scale_shift_norm", [False, True])
def test_one_step_for_all_samples(use_scale_shift_norm):
    """In sampling t has one entry, whatever the batch."""
    definition = make(**SMALLER, use_scale_shift_norm=use_scale_shift_norm, num_classes=0)
    params = noisy(definition)
    one, _ = apply(definition, params, t=T[:1])
    each, _ = apply(definition, params, t=jnp.repeat(T[:1], 2))
    np.testing.assert_allclose(one, each, rtol=1e-4, atol=1e-4)


def test_the_null_label_is_one_more_row():
    rows = {has_null: make(has_null=has_null).shapes["label_embedding"]["embedding"].shape[0] for has_null in (0, 1)}
    assert rows == {0: 3, 1: 4}


def test_as_a_denoiser_its_variance_becomes_the_fraction(network):
    definition, params, (output, variance) = network
    process = make_process(DiffusionConfig())

    def denoise(params):
        return bind(definition, params, process, prediction="eps", variance=from_adm)(Z, Step(t=T), COND)

    prediction = jax.jit(denoise)(params)
    np.testing.assert_allclose(prediction.eps, output, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(prediction.variance, (variance + 1) / 2, rtol=1e-4, atol=1e-4)


def test_without_classes_or_variance():
    definition = make(num_classes=0, learn_variance=False)
    output, variance = jax.eval_shape(lambda p: definition.bind(p)(Z, T, Cond()), definition.shapes)
    assert output.shape == Z.shape and variance is None
    assert "label_embedding" not in definition.shapes


def test_bfloat16_keeps_float32_where_it_matters(network):
    _, params, (output, _) = network
    definition = make(dtype=jnp.bfloat16)
    rough, variance = apply(definition, params)
    assert rough.dtype == variance.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(definition.shapes))
    assert 0 < np.abs(rough - output).max() < 0.1 * np.abs(output).max()


@pytest.mark.parametrize("resblock_updown", [False, True])
def test_features_have_the_type_of_the_computation(resblock_updown):
    definition = make(dtype=jnp.bfloat16, resblock_updown=resblock_updown)
    features = jax.eval_shape(lambda p: definition.bind(p).encode(Z, T, COND), definition.shapes)
    assert features.mid.dtype == jnp.bfloat16 and {skip.dtype for skip in features.skips} == {features.mid.dtype}
    assert features.mid.shape == (2, 2, 2, 32)


@pytest.mark.parametrize("use_remat", [False, True])
def test_gradients_reach_every_parameter(use_remat):
    definition = make(**SMALLER, use_remat=use_remat)
    params = noisy(definition)
    gradient = jax.grad(lambda p: sum(jnp.sum(jnp.sin(o)) for o in definition.bind(p)(Z, T, COND)))
    assert ("remat" in str(jax.make_jaxpr(gradient)(params))) == use_remat
    if use_remat:  # one compiled program is enough
        assert all(np.any(leaf) for leaf in jax.tree.leaves(jax.jit(gradient)(params)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 31}, "network.width is 31"),
        ({"width": 48}, "multiples of 32"),
        ({"channel_mult": ()}, "channel_mult is empty"),
        ({"num_blocks": (1, 2)}, "num_blocks is (1, 2)"),
        ({"num_blocks": 0}, "num_blocks is 0"),
        ({"attn_levels": (1, 2)}, "levels are 0 (finest) to 1"),
        ({"head_dim": 24}, "a multiple of 24 (one head)"),
        ({"head_dim": 0}, "head_dim is 0"),
        ({"num_heads": 5}, "a multiple of 5 (heads)"),
        ({"num_heads": 0}, "num_heads is 0"),
        ({"attention_order": "old"}, "'new' or 'legacy'"),
    ],
)
def test_settings_that_do_not_fit(settings, words):
    with pytest.raises(UserError) as caught:
        nnx.eval_shape(lambda: ADMUNet(**(SETTINGS | settings), rngs=nnx.Rngs(0)))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_inputs_that_do_not_fit(network):
    definition, params, _ = network
    with pytest.raises(UserError, match="cannot be halved 1 times"):
        definition.bind(params)(jnp.zeros((1, 5, 4, 3)), T[:1], COND)
    with pytest.raises(UserError, match="has 3 classes and needs labels"):
        definition.bind(params)(Z, T, Cond())
