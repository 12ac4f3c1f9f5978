"""Patches keep every pixel, in the official channel order."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pdm_jax.ops.patching import patchify, unpatchify

sizes = st.integers(1, 4)


def numbered(*shape: int) -> np.ndarray:
    """An array whose entries are all different."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@settings(max_examples=30, deadline=None)
@given(batch=sizes, rows=sizes, cols=sizes, patch_size=sizes, colours=sizes)
def test_both_ways_are_exact(batch, rows, cols, patch_size, colours):
    x = numbered(batch, rows * patch_size, cols * patch_size, colours)
    patches = patchify(x, patch_size)
    assert patches.shape == (batch, rows, cols, patch_size**2 * colours)
    np.testing.assert_array_equal(unpatchify(patches, patch_size), x)
    grid = numbered(batch, rows, cols, patch_size**2 * colours)
    np.testing.assert_array_equal(patchify(unpatchify(grid, patch_size), patch_size), grid)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_channel_order(data):
    """Channel (dy * P + dx) * C + c is colour c of the patch's pixel in row dy and column dx."""
    patch_size, colours = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    x = numbered(2, 2 * patch_size, 3 * patch_size, colours)
    row, col = data.draw(st.integers(0, 1)), data.draw(st.integers(0, 2))
    dy, dx = (data.draw(st.integers(0, patch_size - 1)) for _ in range(2))
    c = data.draw(st.integers(0, colours - 1))
    got = patchify(x, patch_size)[1, row, col, (dy * patch_size + dx) * colours + c]
    assert got == x[1, row * patch_size + dy, col * patch_size + dx, c]


def test_traced_arrays_too():
    x = jnp.asarray(numbered(1, 4, 4, 3))
    np.testing.assert_array_equal(unpatchify(patchify(x, 2), 2), x)
