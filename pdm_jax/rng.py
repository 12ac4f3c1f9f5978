"""Named random streams, and draws that do not depend on batch size, mesh or accumulation.

A root key is folded with a stream's name, then with counters (a step, a sample's index). Draws for
a batch use one key a sample, so sample i is the same image whatever batch it is computed in.
"""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp

from pdm_jax.types import Array


def stream(key: Array, name: str) -> Array:
    """Folds a stream's name (`"noise"`, `"dropout"`, ...) into a key."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def sample_keys(key: Array, indices: Array) -> Array:
    """One key a sample: `key` folded with each of `indices` [B]. Returns keys [B]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(indices))


def fold_each(keys: Array, data: Array | int) -> Array:
    """Folds one number into each of `keys` [B]."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, data)


def stream_each(keys: Array, name: str) -> Array:
    """Folds a stream's name into each of `keys` [B]."""
    return jax.vmap(lambda key: stream(key, name))(keys)


def normal_each(keys: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal noise, (B, *shape) float32, from one key a sample."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)


def randint_each(keys: Array, low: int, high: int) -> Array:
    """Uniform integers [B] in [low, high), from one key a sample."""
    return jax.vmap(lambda key: jax.random.randint(key, (), low, high))(keys)


def bernoulli_each(keys: Array, probability: float) -> Array:
    """Booleans [B], true with `probability`, from one key a sample."""
    return jax.vmap(lambda key: jax.random.bernoulli(key, probability))(keys)
