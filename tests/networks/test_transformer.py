"""The transformer under CLIP: who sees whom, and settings that cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.transformer import Transformer, TransformerSettings

SETTINGS = {
    "features": 8,
    "mlp_features": 16,
    "num_layers": 2,
    "num_heads": 2,
    "activation": "quick_gelu",
    "norm_eps": 1e-5,
}


@pytest.mark.parametrize("is_causal", [True, False])
def test_who_sees_whom(is_causal):
    """The gradient of place 1 reaches place 2 only without the causal mask, and place 0 always."""
    network = Transformer(TransformerSettings(**SETTINGS), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (1, 3, 8))
    gradient = jax.jit(jax.grad(lambda x: network(x, is_causal=is_causal)[-1][0, 1, 0]))(x)[0]
    reached = np.abs(gradient).max(-1) > 0
    np.testing.assert_array_equal(reached, [True, True, not is_causal])


def test_hidden_states_begin_with_the_input():
    network = Transformer(TransformerSettings(**SETTINGS), rngs=nnx.Rngs(0))
    x = jnp.ones((2, 3, 8))
    hidden = jax.jit(network)(x)
    assert [h.shape for h in hidden] == [(2, 3, 8)] * 3
    np.testing.assert_array_equal(hidden[0], x)


@pytest.mark.parametrize(
    ("change", "message"), [({"num_heads": 3}, "8 features.*3 heads"), ({"activation": "relu"}, "'relu'.*quick_gelu")]
)
def test_impossible_settings(change, message):
    with pytest.raises(UserError, match=message):
        TransformerSettings(**SETTINGS | change)
