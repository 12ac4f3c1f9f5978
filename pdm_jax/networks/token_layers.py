"""Layers over tokens (B, K, D), shared by the spatial transformer and the token encoder; PyTorch's initialisation."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx

from pdm_jax.networks.adm_blocks import dense
from pdm_jax.networks.blocks import attend
from pdm_jax.types import Array

_NORM_EPS = 1e-5


class LayerNorm(nnx.LayerNorm):
    """A layer norm over the last axis, computed in float32."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        super().__init__(features, epsilon=_NORM_EPS, use_fast_variance=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """x (..., D) to the same shape and type."""
        return super().__call__(x.astype(jnp.float32)).astype(x.dtype)


class MultiHeadAttention(nnx.Module):
    """Tokens attend to themselves or to a context; no bias on the way in, one on the way out.

    Args:
      features: of the tokens.
      context_features: of what they attend to.
      num_heads: heads, each of `head_dim` channels; their product need not be `features`.
    """

    def __init__(self, features: int, context_features: int, *, num_heads: int, head_dim: int, dtype, rngs: nnx.Rngs):
        self.num_heads, inner = num_heads, num_heads * head_dim
        self.q = dense(features, inner, use_bias=False, dtype=dtype, rngs=rngs)
        self.k = dense(context_features, inner, use_bias=False, dtype=dtype, rngs=rngs)
        self.v = dense(context_features, inner, use_bias=False, dtype=dtype, rngs=rngs)
        self.out = dense(inner, features, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """x (B, K, features) that attends to context (B or 1, K', context_features), or to itself."""
        context = x if context is None else context
        q, k, v = (self._heads(h, len(x)) for h in (self.q(x), self.k(context), self.v(context)))
        return self.out(attend(q, k, v).reshape(*x.shape[:2], -1))

    def _heads(self, h: Array, batch: int) -> Array:
        """h (B or 1, K, heads D) as (B, K, heads, D)."""
        h = h.reshape(*h.shape[:2], self.num_heads, -1)
        return jnp.broadcast_to(h, (batch, *h.shape[1:]))
