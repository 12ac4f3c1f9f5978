"""Noise of larger canvases: still white, and the trained canvas's own is found again."""

import jax
import numpy as np
import pytest
from einops import reduce

from pdm_jax.pipelines.canvas import enlarged_noise, surrounded_noise

KEYS = jax.random.split(jax.random.key(1), 2)
NOISE = jax.random.normal(jax.random.key(0), (2, 32, 16, 3))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_enlarged_noise_keeps_the_coarse_noise_and_stays_white(factor):
    large = np.asarray(enlarged_noise(NOISE, factor, KEYS))
    assert large.shape == (2, 32 * factor, 16 * factor, 3)
    blocks = reduce(large, "b (h p) (w q) c -> b h w c", "mean", p=factor, q=factor)
    np.testing.assert_allclose(factor * blocks, NOISE, atol=1e-5)
    assert large.std() == pytest.approx(1, abs=0.03)
    for neighbour in (large[:, 1:], large[:, :, 1:], large[..., 1:]):
        pair = large[tuple(slice(n) for n in neighbour.shape)]
        assert abs(np.mean(pair * neighbour)) < 0.06


def test_surrounded_noise_keeps_the_noise_where_it_was():
    large = np.asarray(surrounded_noise(NOISE, (8, 0, 3, 5), KEYS))
    assert large.shape == (2, 40, 24, 3)
    np.testing.assert_array_equal(large[:, 8:, 3:19], NOISE)
    added = np.concatenate([large[:, :8].ravel(), large[:, :, :3].ravel()])
    assert added.std() == pytest.approx(1, abs=0.05)
    assert (large[0] != large[1]).all()
