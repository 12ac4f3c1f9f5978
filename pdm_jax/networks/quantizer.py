"""The codebook of vector-quantised first stages (van den Oord et al. 2017, as VQGAN's program has it)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.types import Array


class Quantizer(nnx.Module):
    """Vectors, each of which stands for those nearest to it.

    Args:
      num_codes: vectors in the codebook; they begin uniform within 1 / num_codes.
      dim: numbers of a vector.
    """

    def __init__(self, num_codes: int, dim: int, *, rngs: nnx.Rngs):
        limit = 1 / num_codes
        table = jax.random.uniform(rngs.params(), (num_codes, dim), jnp.float32, minval=-limit, maxval=limit)
        self.embedding = nnx.Param(table)

    def nearest(self, z: Array) -> Array:
        """The code, int32 (B, h, w), nearest to each vector of z (B, h, w, D) by squared distance."""
        table = self.embedding[...]
        # Full float32: in fewer bits devices would disagree on which code is nearest.
        products = jnp.einsum("bhwd,nd->bhwn", z, table, precision=jax.lax.Precision.HIGHEST)
        return jnp.argmin(jnp.sum(table**2, axis=1)[None, None, None] - 2 * products, axis=-1).astype(jnp.int32)

    def lookup(self, indices: Array) -> Array:
        """The vectors (B, h, w, D) of codes (B, h, w)."""
        return self.embedding[...][indices]


def straight_through(z: Array, codes: Array) -> Array:
    """The codes, with the gradient going to z as if nothing had been looked up."""
    return z + jax.lax.stop_gradient(codes - z)


def codebook_loss(z: Array, codes: Array, *, commitment: float = 1.0, codebook: float = 0.25) -> Array:
    """What draws latents z (B, h, w, D) to their codes and codes to their latents; means over places, [B].

    The weights are as in LDM's program ("legacy"), where beta is that of the codebook and not of the commitment.
    """
    still_z, still_codes = jax.lax.stop_gradient((z, codes))
    towards_codes = jnp.square(still_codes - z).mean((1, 2, 3))
    towards_latents = jnp.square(codes - still_z).mean((1, 2, 3))
    return commitment * towards_codes + codebook * towards_latents


def codebook_use(indices: Array, num_codes: int) -> tuple[Array, Array]:
    """How many codes a batch (B, h, w) uses, and the exponential of their entropy; both float32 scalars."""
    counts = jnp.zeros(num_codes, jnp.float32).at[indices.reshape(-1)].add(1.0)
    share = counts / indices.size
    perplexity = jnp.exp(-jnp.sum(share * jnp.log(share + 1e-10)))
    return jnp.count_nonzero(counts).astype(jnp.float32), perplexity
