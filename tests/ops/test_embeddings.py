"""Sinusoidal codes against their formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.ops.embeddings import cosine_code, grid_code, position_code, time_code


def frequency(i: int, half: int) -> float:
    return np.exp(-np.log(10000.0) * i / (half - 1))


@pytest.mark.parametrize("width", [4, 32])
def test_time_code_is_sines_then_cosines(width):
    half, t = width // 2, np.array([0, 1, 417, 999])
    code = time_code(jnp.asarray(t), width)
    assert code.shape == (4, width) and code.dtype == jnp.float32
    for i in range(half):
        np.testing.assert_allclose(code[:, i], np.sin(t * frequency(i, half)), atol=2e-4)
        np.testing.assert_allclose(code[:, half + i], np.cos(t * frequency(i, half)), atol=2e-4)


def test_grid_code_has_the_column_first():
    code = grid_code(8, 16, 12)
    assert code.shape == (1, 8, 16, 12) and code.dtype == np.float32
    for row, col, i in [(0, 0, 0), (3, 5, 2), (7, 15, 5)]:
        np.testing.assert_allclose(code[0, row, col, i], np.sin(col * frequency(i, 6) * 64 / 16), atol=1e-5)
        np.testing.assert_allclose(code[0, row, col, 6 + i], np.sin(row * frequency(i, 6) * 64 / 8), atol=1e-5)


def test_grids_of_any_size_span_the_same_codes():
    np.testing.assert_array_equal(grid_code(4, 4, 8), grid_code(16, 16, 8)[:, ::4, ::4])


def test_cosine_code_is_cosines_then_sines():
    values = np.array([0.0, 0.5, 417.0])
    code = cosine_code(jnp.asarray(values), 8)
    assert code.shape == (3, 8) and code.dtype == jnp.float32
    for k in range(4):
        angle = values * 10000 ** (-k / 4)
        np.testing.assert_allclose(code[:, k], np.cos(angle), atol=3e-5)
        np.testing.assert_allclose(code[:, 4 + k], np.sin(angle), atol=3e-5)


def test_position_code_has_the_row_first_and_is_zero_where_unknown():
    code = position_code(jnp.array([[1.5, 3.0, 1.0], [1.5, 3.0, 0.0]]), 4)
    expected = jnp.concatenate([cosine_code(jnp.array([1.5]), 4), cosine_code(jnp.array([3.0]), 4)], axis=-1)
    np.testing.assert_allclose(code[:1], expected, rtol=1e-6)
    assert not np.any(code[1])
