"""Patch-DM's latent network: a stack of dense layers that denoises semantic codes (after Preechakul et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.adm_blocks import dense
from pdm_jax.networks.layers import Dense
from pdm_jax.ops.embeddings import cosine_code
from pdm_jax.types import Array, Cond

_he = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


class Layer(nnx.Module):
    """dense, scaled by time, layer norm, swish."""

    def __init__(self, in_features: int, features: int, time_dim: int, *, dtype, rngs: nnx.Rngs):
        self.linear = _he_dense(in_features, features, dtype=dtype, rngs=rngs)
        self.modulation = _he_dense(time_dim, features, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(features, epsilon=1e-5, use_fast_variance=False, rngs=rngs)

    def __call__(self, h: Array, time: Array) -> Array:
        """h (B, C_in) and the activated time vector (B or 1, time_dim) to (B, C)."""
        h = self.linear(h) * (1 + self.modulation(time))
        return jax.nn.swish(self.norm(h.astype(jnp.float32)).astype(h.dtype))


class CodeMLP(nnx.Module):
    """A multi-layer perceptron over codes, some of whose layers see the input code again.

    Args:
      code_dim: numbers of a code.
      width: of the hidden layers; released 2048.
      num_layers: released 10.
      skip_layers: numbers of the layers that do; None is all but the first, as released.
      time_width: of the sinusoidal code of time, even; released 64.
      dtype: of the computation. Norms and the last layer are float32 always, as are the parameters.
    """

    def __init__(
        self,
        *,
        code_dim: int,
        width: int,
        num_layers: int,
        skip_layers: Sequence[int] | None = None,
        time_width: int = 64,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        if min(code_dim, width) < 1 or num_layers < 2 or time_width < 2 or time_width % 2:
            raise UserError(
                f"a network of codes with code_dim {code_dim}, width {width}, num_layers {num_layers} and time_width "
                f"{time_width} cannot be built; expected at least 1, 1 and 2, and an even number of at least 2"
            )
        skips = tuple(range(1, num_layers)) if skip_layers is None else tuple(skip_layers)
        if not set(skips) <= set(range(1, num_layers)):
            raise UserError(
                f"network.skip_layers is {list(skips)}; the layers that can have one are 1 to {num_layers - 1}"
            )
        self.code_dim, self.time_width, self.skips = code_dim, time_width, skips
        self.time_in = dense(time_width, code_dim, dtype=dtype, rngs=rngs)
        self.time_out = dense(code_dim, code_dim, dtype=dtype, rngs=rngs)
        sizes = [(width if i else code_dim) + code_dim * (i in skips) for i in range(num_layers)]
        self.layers = nnx.List([Layer(size, width, code_dim, dtype=dtype, rngs=rngs) for size in sizes[:-1]])
        self.out = dense(sizes[-1], code_dim, dtype=jnp.float32, rngs=rngs)

    def __call__(self, z_t: Array, t: Array, cond: Cond) -> tuple[Array, None]:
        """Noisy codes z_t (B, code_dim) at steps t [B] or [1] to the output of that shape; there is no variance."""
        del cond
        if z_t.shape[-1] != self.code_dim:
            raise UserError(f"the codes have {z_t.shape[-1]} numbers; this network takes {self.code_dim}")
        h = self.features(z_t, t)[-1].astype(jnp.float32)
        return self.out(self._entering(len(self.layers), h, z_t)), None

    def features(self, z_t: Array, t: Array) -> list[Array]:
        """What each hidden layer puts out, (B, width)."""
        time, features = jax.nn.swish(self.time(t)), []
        for i, layer in enumerate(self.layers):
            features.append(layer(self._entering(i, features[-1] if features else z_t, z_t), time))
        return features

    def _entering(self, number: int, h: Array, z_t: Array) -> Array:
        """What a layer reads: the layer before, and the input code if it is one that sees it."""
        return jnp.concatenate([h, z_t.astype(h.dtype)], axis=-1) if number in self.skips else h

    def time(self, t: Array) -> Array:
        """The time vector, before its activation: t [B] to (B, code_dim)."""
        return self.time_out(jax.nn.swish(self.time_in(cosine_code(t, self.time_width))))


def _he_dense(in_features: int, features: int, *, dtype, rngs: nnx.Rngs) -> Dense:
    """A dense layer with a kernel after He et al. 2015 and PyTorch's bias."""
    layer = dense(in_features, features, dtype=dtype, rngs=rngs)
    layer.kernel = nnx.Param(_he(rngs.params(), (in_features, features)))
    return layer
