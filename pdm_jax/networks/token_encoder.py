"""Conditions as tokens to attend to: texts and layouts through a transformer, classes from a table (LDM facts 5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.adm_blocks import dense
from pdm_jax.networks.token_layers import LayerNorm, MultiHeadAttention
from pdm_jax.types import Array

_MLP_RATIO = 4
_embedding_init = nnx.initializers.normal(0.02)


class TokenEncoder(nnx.Module):
    """A transformer over texts or layouts; every token sees every other, those that fill up the length too.

    Args:
      vocab_size: number of tokens.
      max_length: most tokens of an input.
      width: of the tokens it puts out.
      num_layers: of attention and a two-layer perceptron each.
      num_heads: heads of every attention.
      head_dim: channels of a head. The program has 8 heads of 64 whatever the width.
      use_remat: recompute each layer in the backward pass instead of keeping its activations.
      dtype: of the computation; layer norms, softmax and the parameters are float32 always.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        max_length: int,
        width: int,
        num_layers: int,
        num_heads: int = 8,
        head_dim: int = 64,
        use_remat: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        sizes = {"vocab_size": vocab_size, "max_length": max_length, "width": width, "num_layers": num_layers}
        _check_positive(**sizes, num_heads=num_heads, head_dim=head_dim)
        self.max_length, self.use_remat = max_length, use_remat
        embed = {"embedding_init": _embedding_init, "dtype": dtype, "rngs": rngs}
        self.token_embedding = nnx.Embed(vocab_size, width, **embed)
        self.position_embedding = nnx.Embed(max_length, width, **embed)
        self.layers = nnx.List(
            TokenLayer(width, num_heads=num_heads, head_dim=head_dim, dtype=dtype, rngs=rngs) for _ in range(num_layers)
        )
        self.norm_out = LayerNorm(width, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        """tokens [B, K] int in [0, vocab_size) to (B, K, width) float32; K is at most `max_length`.

        Raises:
          UserError: there are more tokens than positions.
        """
        length = tokens.shape[1]
        if length > self.max_length:
            raise UserError(
                f"the context has {length} tokens; this network reads at most {self.max_length}: cut it, or train "
                "with a larger max_length"
            )
        x = self.token_embedding(tokens) + self.position_embedding(jnp.arange(length))[None]
        for layer in self.layers:
            x = jax.checkpoint(lambda x, layer=layer: layer(x))(x) if self.use_remat else layer(x)
        return self.norm_out(x.astype(jnp.float32))


class TokenLayer(nnx.Module):
    """Self-attention and a two-layer perceptron, each behind a layer norm and added to its input."""

    def __init__(self, width: int, *, num_heads: int, head_dim: int, dtype, rngs: nnx.Rngs):
        self.norm_attention, self.norm_mlp = LayerNorm(width, rngs=rngs), LayerNorm(width, rngs=rngs)
        self.attention = MultiHeadAttention(
            width, width, num_heads=num_heads, head_dim=head_dim, dtype=dtype, rngs=rngs
        )
        self.mlp_in = dense(width, _MLP_RATIO * width, dtype=dtype, rngs=rngs)
        self.mlp_out = dense(_MLP_RATIO * width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """x (B, K, D) to the same shape."""
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp_out(jax.nn.gelu(self.mlp_in(self.norm_mlp(x)), approximate=False))


class ClassEmbedder(nnx.Module):
    """A class as one token to attend to.

    Args:
      num_classes: number of classes.
      has_null: the label `num_classes` is the null label, for guidance without a classifier.
      width: of the token.
      rngs: streams of the initial parameters.
    """

    def __init__(self, *, num_classes: int, has_null: bool = True, width: int, rngs: nnx.Rngs):
        _check_positive(num_classes=num_classes, width=width)
        normal = nnx.initializers.normal(1.0)
        self.label_embedding = nnx.Embed(num_classes + has_null, width, embedding_init=normal, rngs=rngs)

    def __call__(self, label: Array) -> Array:
        """label [B] int to (B, 1, width) float32."""
        return self.label_embedding(label)[:, None]


def _check_positive(**settings: int) -> None:
    for name, value in settings.items():
        if value < 1:
            raise UserError(f"config.condition.networks: {name} is {value}; expected at least 1")
