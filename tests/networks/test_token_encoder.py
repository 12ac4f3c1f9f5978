"""Conditions as tokens: the encoder of texts and layouts, and the embedder of classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.networks import ClassEmbedder, TokenEncoder, count_params, define

SETTINGS = {"vocab_size": 11, "max_length": 5, "width": 12, "num_layers": 2, "num_heads": 2, "head_dim": 4}
TOKENS = jnp.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])


def make(**settings):
    return define(lambda rngs: TokenEncoder(**(SETTINGS | settings), rngs=rngs))


@pytest.fixture(scope="module")
def encoder():
    """A compiled function of tokens, a definition and its parameters."""
    definition = make()
    params = jax.jit(definition.init)(jax.random.key(0))
    return jax.jit(lambda tokens: definition.bind(params)(tokens)), definition, params


def test_every_token_sees_every_other(encoder):
    encode, _, _ = encoder
    before, after = encode(TOKENS), encode(TOKENS.at[0, 4].set(9))  # what fills up counts too
    assert before.shape == (2, 5, 12) and before.dtype == jnp.float32
    assert (np.abs(before[0] - after[0]).max(-1) > 1e-4).all()
    np.testing.assert_allclose(before[1], after[1], rtol=1e-5, atol=1e-5)


def test_positions_matter_and_shorter_inputs_use_the_first(encoder):
    encode, _, params = encoder
    assert np.abs(encode(TOKENS)[1, ::-1] - encode(TOKENS[:, ::-1])[1]).max() > 1e-3
    rows = {"embedding": params["position_embedding"]["embedding"][:3]}
    short = make(max_length=3).bind(params | {"position_embedding": rows})
    np.testing.assert_allclose(encode(TOKENS[:, :3]), short(TOKENS[:, :3]), rtol=1e-5, atol=1e-5)


def test_the_output_is_normed(encoder):
    encode, _, _ = encoder
    output = encode(TOKENS)
    np.testing.assert_allclose(output.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(output.var(-1), 1, atol=1e-2)


def test_initialisation(encoder):
    _, _, params = encoder
    for name in ("token_embedding", "position_embedding"):
        assert 0.015 < np.std(params[name]["embedding"]) < 0.025
    attention = params["layers"][0]["attention"]
    assert [name for name, layer in attention.items() if "bias" in layer] == ["out"]


def test_heads_need_not_fit_the_width():
    assert make(num_heads=8, head_dim=64).shapes["layers"][0]["attention"]["q"]["kernel"].shape == (12, 512)


def test_remat_and_bfloat16(encoder):
    encode, _, params = encoder
    definition = make(use_remat=True, dtype=jnp.bfloat16)

    def loss(params):
        output = definition.bind(params)(TOKENS)
        return jnp.square(output - encode(TOKENS)).mean(), output

    assert "remat" in str(jax.make_jaxpr(jax.grad(loss, has_aux=True))(params))
    (error, output), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert output.dtype == jnp.float32 and 0 < error < 1e-2
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))


def test_more_tokens_than_positions(encoder):
    _, definition, params = encoder
    with pytest.raises(UserError, match="the context has 6 tokens; this network reads at most 5"):
        definition.bind(params)(jnp.zeros((1, 6), jnp.int32))


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_do_not_fit(name):
    with pytest.raises(UserError, match=f"{name} is 0; expected at least 1"):
        make(**{name: 0})


def test_a_class_is_one_token():
    definition = define(lambda rngs: ClassEmbedder(num_classes=3, width=4, rngs=rngs))
    table = np.arange(16, dtype=np.float32).reshape(4, 4)
    embed = definition.bind({"label_embedding": {"embedding": jnp.asarray(table)}})
    np.testing.assert_array_equal(embed(jnp.array([3, 1])), table[[3, 1], None])
    without = define(lambda rngs: ClassEmbedder(num_classes=3, has_null=False, width=4, rngs=rngs))
    assert count_params(without.shapes) == 12
    with pytest.raises(UserError, match="num_classes is 0"):
        define(lambda rngs: ClassEmbedder(num_classes=0, width=4, rngs=rngs))
