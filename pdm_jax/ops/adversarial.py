"""What a critic learns from, and how much a generator listens to it (VQGAN, Esser et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from pdm_jax.types import Array

_LARGEST_WEIGHT = 1e4
_SMALLEST_NORM = 1e-4  # added to the norm of the critic's gradient


def hinge(real: Array, fake: Array) -> tuple[Array, Array]:
    """The hinge losses [B] of logits (B, h, w, 1) of real and of generated images; each counts half."""
    return jax.nn.relu(1 - real).mean((1, 2, 3)), jax.nn.relu(1 + fake).mean((1, 2, 3))


def vanilla(real: Array, fake: Array) -> tuple[Array, Array]:
    """The same of the first GAN's loss: cross-entropies of real and generated."""
    return jax.nn.softplus(-real).mean((1, 2, 3)), jax.nn.softplus(fake).mean((1, 2, 3))


CRITIC_LOSSES: Mapping[str, Callable[[Array, Array], tuple[Array, Array]]] = MappingProxyType(
    {"hinge": hinge, "vanilla": vanilla}
)


def adaptive_weight(reconstruction: Array, generator: Array) -> Array:
    """What makes the generator's gradient as long as that of the reconstruction, at most 1e4; a scalar.

    Args:
      reconstruction, generator: gradients of both terms for the kernel of the last convolution.
    """
    ratio = jnp.linalg.norm(reconstruction.ravel()) / (jnp.linalg.norm(generator.ravel()) + _SMALLEST_NORM)
    return jnp.clip(ratio, 0, _LARGEST_WEIGHT)
