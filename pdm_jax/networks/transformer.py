"""The transformer of CLIP's towers: layer norm before attention and before the two dense layers, both added."""

from __future__ import annotations

import dataclasses

import jax
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.layers import Dense
from pdm_jax.types import Array

ACTIVATIONS = {
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}


@dataclasses.dataclass(frozen=True)
class TransformerSettings:
    """Sizes of a transformer."""

    features: int
    mlp_features: int
    num_layers: int
    num_heads: int
    activation: str  # quick_gelu | gelu
    norm_eps: float

    def __post_init__(self):
        if self.features % self.num_heads:
            raise UserError(f"{self.features} features do not divide by {self.num_heads} heads; check the config")
        if self.activation not in ACTIVATIONS:
            raise UserError(f"the activation {self.activation!r} is not known; expected {' or '.join(ACTIVATIONS)}")


def layer_norm(settings: TransformerSettings, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A layer norm over the last axis."""
    return nnx.LayerNorm(settings.features, epsilon=settings.norm_eps, rngs=rngs)


class Layer(nnx.Module):
    """Self-attention and a two-layer perceptron, each behind a layer norm and added to its input."""

    def __init__(self, settings: TransformerSettings, *, rngs: nnx.Rngs):
        features, mlp_features = settings.features, settings.mlp_features
        self.num_heads, self.activation = settings.num_heads, settings.activation
        self.norm_attention = layer_norm(settings, rngs=rngs)
        self.q, self.k, self.v, self.out = (Dense(features, features, rngs=rngs) for _ in range(4))
        self.norm_mlp = layer_norm(settings, rngs=rngs)
        self.mlp_in = Dense(features, mlp_features, rngs=rngs)
        self.mlp_out = Dense(mlp_features, features, rngs=rngs)

    def __call__(self, x: Array, *, is_causal: bool) -> Array:
        """x (B, K, D) to the same shape; if causal, a token attends to itself and those before it only."""
        h = self.norm_attention(x)
        q, k, v = (project(h).reshape(*h.shape[:2], self.num_heads, -1) for project in (self.q, self.k, self.v))
        x = x + self.out(jax.nn.dot_product_attention(q, k, v, is_causal=is_causal).reshape(x.shape))
        return x + self.mlp_out(ACTIVATIONS[self.activation](self.mlp_in(self.norm_mlp(x))))


class Transformer(nnx.Module):
    """Layers one after the other."""

    def __init__(self, settings: TransformerSettings, *, rngs: nnx.Rngs):
        self.layers = nnx.List(Layer(settings, rngs=rngs) for _ in range(settings.num_layers))

    def __call__(self, x: Array, *, is_causal: bool = False) -> tuple[Array, ...]:
        """x (B, K, D) to itself and what each layer makes of it, num_layers + 1 arrays of that shape."""
        hidden = [x]
        for layer in self.layers:
            hidden.append(layer(hidden[-1], is_causal=is_causal))
        return tuple(hidden)
