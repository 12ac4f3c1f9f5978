"""CLIP's towers: which token stands for a text, and inputs that do not fit. Numbers: tests/golden/sd21_clip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.clip import LEGACY_EOS, ImageTower, TextTower
from pdm_jax.networks.transformer import TransformerSettings

SETTINGS = TransformerSettings(8, 16, 1, 2, "gelu", 1e-5)
TOKENS = jnp.array([[1, 5, 7, 2, 7], [7, 9, 3, 3, 3]], jnp.int32)


def text_tower(eos: int, projection_dim: int | None = None) -> TextTower:
    sizes = {"vocab_size": 10, "max_length": 6, "projection_dim": projection_dim}
    return TextTower(SETTINGS, **sizes, eos=eos, rngs=nnx.Rngs(0))


def apply(tower, inputs):
    return jax.jit(lambda inputs: tower(inputs))(inputs)


@pytest.mark.parametrize(("eos", "places"), [(7, (2, 0)), (LEGACY_EOS, (2, 1))])
def test_the_end_token_stands_for_the_text(eos, places):
    """The first end token; by the legacy rule the first of the highest."""
    out = apply(text_tower(eos), TOKENS)
    np.testing.assert_array_equal(out.pooled, out.last[jnp.arange(2), jnp.array(places)])


def test_what_follows_the_end_changes_nothing():
    tower = text_tower(7, projection_dim=4)
    texts = jnp.array([[1, 5, 7, 2, 7], [1, 5, 7, 9, 9], [1, 9, 7, 2, 7]], jnp.int32)
    embedding = apply(tower, texts).embedding
    np.testing.assert_array_equal(embedding[0], embedding[1])
    assert not np.array_equal(embedding[0], embedding[2])


def test_no_embedding_without_a_projection():
    assert text_tower(7).projection is None
    assert apply(text_tower(7), TOKENS).embedding is None


def test_inputs_that_do_not_fit():
    with pytest.raises(UserError, match="7 tokens; this network reads 6"):
        text_tower(7)(jnp.zeros((1, 7), jnp.int32))
    tower = ImageTower(SETTINGS, image_size=8, patch_size=4, projection_dim=None, rngs=nnx.Rngs(0))
    assert apply(tower, jnp.zeros((2, 8, 8, 3))).last.shape == (2, 5, 8)
    with pytest.raises(UserError, match="8x4; this network reads 8x8"):
        tower(jnp.zeros((2, 8, 4, 3)))
