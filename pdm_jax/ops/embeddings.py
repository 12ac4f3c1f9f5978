"""Sinusoidal codes of time and position."""

import math

import jax.numpy as jnp
import numpy as np

from pdm_jax.types import Array


def _frequencies(half: int) -> np.ndarray:
    """1 down to 1/10000 in `half` geometric steps, both ends included; float32 [half]."""
    return np.exp(-np.log(10000.0) * np.arange(half) / (half - 1)).astype(np.float32)


def time_code(t: Array, width: int) -> Array:
    """Code of a step, sines first (the TensorFlow program of PDM).

    Args:
      t: [B], raw step numbers.
      width: even, at least 4.

    Returns:
      (B, width) float32: [sin(t f) | cos(t f)].
    """
    angle = t.astype(jnp.float32)[:, None] * _frequencies(width // 2)[None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def cosine_code(values: Array, width: int) -> Array:
    """Code of numbers, cosines first, with frequencies from 1 to just above 1/10000 (ADM, Patch-DM).

    Args:
      values: [B], steps or positions, as they are.
      width: even.

    Returns:
      (B, width) float32: [cos(v f) | sin(v f)].
    """
    half = width // 2
    exponents = -math.log(10000) * np.arange(half, dtype=np.float32) / half
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)  # NumPy's float32 exp is off by some bits
    angle = values.astype(jnp.float32)[:, None] * frequencies[None]
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def position_code(position: Array, width: int) -> Array:
    """Code of a patch's place (Patch-DM).

    Args:
      position: (B, 3) row and column in patch units, and 1 where they are known, 0 where they are dropped.
      width: of the code of one axis, even.

    Returns:
      (B, 2 width) float32: [row | column]; zeros where the position is not known.
    """
    row, column, known = jnp.unstack(position.astype(jnp.float32), axis=-1)
    code = jnp.concatenate([cosine_code(row, width), cosine_code(column, width)], axis=-1)
    return code * known[:, None]


def grid_code(height: int, width: int, channels: int) -> np.ndarray:
    """Code of a place in a grid (PDM appendix C): sines only, the column in the first half of the channels.

    Positions are scaled so that any grid spans 64 units: a 16 x 16 and a 64 x 64 grid see the same codes,
    sampled more or less densely.

    Returns:
      (1, height, width, channels) float32.
    """
    frequencies = _frequencies(channels // 2)
    row, col = (np.sin(np.arange(n)[:, None] * frequencies * (64 / n)) for n in (height, width))
    shape = (height, width, channels // 2)
    code = np.concatenate([np.broadcast_to(col[None], shape), np.broadcast_to(row[:, None], shape)], axis=-1)
    return code[None].astype(np.float32)
