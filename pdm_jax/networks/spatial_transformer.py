"""The spatial transformer: places of a grid as tokens that attend to each other and to a context (LDM appendix E.2.1).

The order is the program's (LDM facts, section 4): the feed-forward network comes last in each block, and a group norm,
not a layer norm, comes first. The paper's table 16 has it otherwise.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.networks.adm_blocks import ADMSettings, Signals, check_heads, dense
from pdm_jax.networks.layers import GroupNorm
from pdm_jax.networks.token_layers import LayerNorm, MultiHeadAttention
from pdm_jax.types import Array

_NORM_EPS = 1e-6
_MLP_RATIO = 4


@dataclasses.dataclass(frozen=True)
class TransformerSettings(ADMSettings):
    """What all layers of a network with cross-attention share."""

    context_dim: int
    depth: int  # blocks of each transformer


class TransformerBlock(nnx.Module):
    """Self-attention, cross-attention and a gated feed-forward network, each behind a layer norm and added."""

    def __init__(self, features: int, num_heads: int, settings: TransformerSettings, *, rngs: nnx.Rngs):
        heads = {"num_heads": num_heads, "head_dim": features // num_heads, "dtype": settings.dtype, "rngs": rngs}
        self.norm_self, self.norm_cross, self.norm_mlp = (LayerNorm(features, rngs=rngs) for _ in range(3))
        self.attend_self = MultiHeadAttention(features, features, **heads)
        self.attend_cross = MultiHeadAttention(features, settings.context_dim, **heads)
        inner = _MLP_RATIO * features
        self.mlp_in = dense(features, 2 * inner, dtype=settings.dtype, rngs=rngs)
        self.mlp_out = dense(inner, features, dtype=settings.dtype, rngs=rngs)

    def __call__(self, x: Array, context: Array) -> Array:
        """x (B, K, C) with context (B or 1, K', context_dim) to the same shape."""
        x = x + self.attend_self(self.norm_self(x))
        x = x + self.attend_cross(self.norm_cross(x), context)
        value, gate = jnp.split(self.mlp_in(self.norm_mlp(x)), 2, axis=-1)
        return x + self.mlp_out(value * jax.nn.gelu(gate, approximate=False))


class SpatialTransformer(nnx.Module):
    """Blocks over the places of the grid, row by row, added to x; it takes the place of ADM's attention."""

    def __init__(self, features: int, settings: TransformerSettings, *, rngs: nnx.Rngs):
        num_heads = check_heads(features, settings)
        self.norm = GroupNorm(features, norm_eps=_NORM_EPS, rngs=rngs)
        self.dense_in = dense(features, features, dtype=settings.dtype, rngs=rngs)
        self.blocks = nnx.List(
            TransformerBlock(features, num_heads, settings, rngs=rngs) for _ in range(settings.depth)
        )
        self.dense_out = dense(features, features, zero_init=True, dtype=settings.dtype, rngs=rngs)

    def __call__(self, x: Array, signals: Signals) -> Array:
        """x (B, H, W, C) to the same shape."""
        tokens = self.dense_in(self.norm(x)).reshape(len(x), -1, x.shape[-1])
        for block in self.blocks:
            tokens = block(tokens, signals.context)
        return x + self.dense_out(tokens).reshape(x.shape)
