"""The semantic encoder and the latent network of Patch-DM: sizes, initialisation, inputs that do not fit.

Their outputs are compared with the official ones by the parity kind `patchdm_encoder`.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks import CodeEncoder, CodeMLP, count_params, define
from pdm_jax.types import Cond

ENCODER = {"channels": 3, "width": 32, "channel_mult": (1, 1), "num_blocks": 1, "code_dim": 6}
MLP = {"code_dim": 8, "width": 32, "num_layers": 3, "time_width": 4}
IMAGES = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
CODES = jax.random.normal(jax.random.key(0), (2, 8))
T = jnp.array([3, 700])


def encoder(**settings):
    return define(lambda rngs: CodeEncoder(**(ENCODER | settings), rngs=rngs))


def mlp(**settings):
    return define(lambda rngs: CodeMLP(**(MLP | settings), rngs=rngs))


def test_full_size_parameter_counts(golden):
    counts = json.loads((golden / "keys" / "param_counts_patchdm.json").read_text())
    released = {"width": 64, "channel_mult": (1, 2, 4, 8, 8), "num_blocks": 2, "code_dim": 512}
    for level, name in ((2, "semantic_encoder_nominal64"), (4, "semantic_encoder_nominal256")):
        assert count_params(encoder(**released, attn_levels=(level,)).shapes) == counts[name]["parameters"]
    released = {"code_dim": 512, "width": 2048, "num_layers": 10, "time_width": 64}
    assert count_params(mlp(**released).shapes) == counts["latent_mlp"]["parameters"]


def test_images_of_any_size_become_codes():
    definition = encoder()
    params = jax.jit(definition.init)(jax.random.key(0))
    encode = jax.jit(lambda images: definition.bind(params)(images))
    codes = encode(IMAGES)
    assert codes.shape == (2, 6) and codes.dtype == jnp.float32
    np.testing.assert_allclose(encode(IMAGES[1:]), codes[1:], rtol=1e-4, atol=1e-5)  # images do not mix
    assert np.abs(codes[0] - codes[1]).max() > 1e-3
    assert encode(jnp.zeros((1, 8, 2, 3))).shape == (1, 6)


def test_bfloat16_codes_are_float32():
    shapes = jax.eval_shape(lambda: encoder(dtype=jnp.bfloat16).bind(encoder().init(jax.random.key(0)))(IMAGES))
    assert shapes.dtype == jnp.float32
    output, _ = jax.eval_shape(lambda: mlp(dtype=jnp.bfloat16).bind(mlp().init(jax.random.key(0)))(CODES, T, Cond()))
    assert output.dtype == jnp.float32


@pytest.mark.parametrize("use_remat", [False, True])
def test_remat_recomputes_the_stages(use_remat):
    definition = encoder(use_remat=use_remat)
    jaxpr = jax.make_jaxpr(lambda p: definition.bind(p)(IMAGES))(definition.shapes)
    assert ("remat" in str(jaxpr)) == use_remat


def test_codes_are_denoised_one_by_one():
    definition = mlp()
    params = jax.jit(definition.init)(jax.random.key(0))
    denoise = jax.jit(lambda z, t: definition.bind(params)(z, t, Cond()))
    output, variance = denoise(CODES, T)
    assert output.shape == CODES.shape and variance is None
    np.testing.assert_allclose(denoise(CODES[1:], T[1:])[0], output[1:], rtol=1e-5, atol=1e-6)
    assert np.abs(denoise(CODES, T + 100)[0] - output).max() > 1e-3
    np.testing.assert_allclose(denoise(CODES, T[:1])[0], denoise(CODES, jnp.repeat(T[:1], 2))[0], rtol=1e-5, atol=1e-6)


def test_hidden_layers_are_initialised_after_he():
    definition = mlp(code_dim=64, width=128)
    params = jax.jit(definition.init)(jax.random.key(0))
    for layer, sizes in zip(params["layers"].values(), ((64, 64), (192, 64)), strict=True):
        for name, fan_in in zip(("linear", "modulation"), sizes, strict=True):
            kernel = np.asarray(layer[name]["kernel"])
            assert abs(kernel.std() / (2 / fan_in) ** 0.5 - 1) < 0.05
            assert np.abs(kernel).max() > 2.5 * (2 / fan_in) ** 0.5  # a normal distribution, not truncated
            assert 0.8 / fan_in**0.5 < np.abs(layer[name]["bias"]).max() <= 1 / fan_in**0.5
    assert np.abs(params["out"]["kernel"]).max() <= 192**-0.5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda rngs: CodeEncoder(**(ENCODER | {"width": 40}), rngs=rngs), "multiples of 32"),
        (lambda rngs: CodeEncoder(**(ENCODER | {"attn_levels": (2,)}), rngs=rngs), "levels are 0 (finest) to 1"),
        (lambda rngs: CodeMLP(**(MLP | {"num_layers": 1}), rngs=rngs), "num_layers 1"),
        (lambda rngs: CodeMLP(**(MLP | {"time_width": 3}), rngs=rngs), "time_width 3"),
    ],
)
def test_settings_that_do_not_fit(make, words):
    with pytest.raises(UserError) as caught:
        nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_inputs_that_do_not_fit():
    with pytest.raises(UserError, match="cannot halve an image of 5x4 1 times"):
        jax.eval_shape(lambda p: encoder().bind(p)(jnp.zeros((1, 5, 4, 3))), encoder().shapes)
    with pytest.raises(UserError, match="codes have 7 numbers; this network takes 8"):
        jax.eval_shape(lambda p: mlp().bind(p)(CODES[:, :7], T, Cond()), mlp().shapes)
