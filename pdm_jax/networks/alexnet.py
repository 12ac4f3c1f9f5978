"""AlexNet's convolutions (Krizhevsky 2014, arXiv 1404.5997), as torchvision has them."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
from flax import nnx

from pdm_jax.networks.frozen import ConvRelu, max_pool
from pdm_jax.types import Array

WIDTHS = (64, 192, 384, 256, 256)
LEAST_SIZE = 31  # from here on the last layer has a pixel
_POOLED_BEFORE = (1, 2)


class AlexNet(nnx.Module):
    """Five convolutions.

    Args:
      dtype: of the computation.
    """

    def __init__(self, *, dtype=jnp.float32, rngs: nnx.Rngs):
        first = ConvRelu(3, WIDTHS[0], (11, 11), stride=4, padding=2, dtype=dtype, rngs=rngs)
        second = ConvRelu(WIDTHS[0], WIDTHS[1], (5, 5), dtype=dtype, rngs=rngs)
        pairs = itertools.pairwise(WIDTHS[1:])
        self.convs = nnx.List([first, second, *(ConvRelu(a, b, (3, 3), dtype=dtype, rngs=rngs) for a, b in pairs)])

    def taps(self, x: Array) -> tuple[Array, ...]:
        """Normalised x (B, H, W, 3) to what each of the five convolutions gives after ReLU."""
        found = []
        for i, conv in enumerate(self.convs):
            x = conv(max_pool(x, 3, 2) if i in _POOLED_BEFORE else x)
            found.append(x)
        return tuple(found)
