"""Tiles: where they lie, what they weigh, and that blending them changes nothing that looks at single pixels."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.ops.tiling import apply_tiled, border_weights, lay_tiles

IMAGES = jax.random.normal(jax.random.key(0), (2, 12, 18, 3))


def test_tiles_cover_the_canvas():
    assert lay_tiles((16, 16), 8, 4).rows == (0, 4, 8)
    tiles = lay_tiles((17, 22), (8, 6), (4, 6))
    assert (tiles.rows, tiles.columns) == ((0, 4, 8, 9), (0, 6, 12, 16))
    assert tiles.starts.shape == (16, 2) and tiles.starts[5].tolist() == [4, 6]
    small = lay_tiles((4, 30), 8, 8)
    assert small.size == (4, 8) and small.rows == (0,)


def test_weights_are_distances_to_the_border():
    weights = border_weights((5, 9))
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights[2], [0.01, 0.125, 0.25, 0.375, 0.5, 0.375, 0.25, 0.125, 0.01])
    np.testing.assert_allclose(weights[1], [0.01, 0.125, 0.25, 0.25, 0.25, 0.25, 0.25, 0.125, 0.01])
    assert border_weights((1, 4), (0.2, 0.3)).tolist() == np.full((1, 4), 0.2, np.float32).tolist()


@pytest.mark.parametrize("max_tiles", [1, 3, 100])
@pytest.mark.parametrize("kernel, stride", [(4, 2), (5, 3), ((6, 4), (6, 1)), (50, 50)])
def test_a_function_of_pixels_is_itself(kernel, stride, max_tiles):
    run = jax.jit(lambda x: apply_tiled(jnp.tanh, x, kernel, stride, max_tiles=max_tiles))
    np.testing.assert_allclose(run(IMAGES), jnp.tanh(IMAGES), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tie_clip", [None, (0.01, 0.5)])
def test_it_is_the_weighted_mean_of_the_tiles(tie_clip):
    """Each tile is filled with its own mean; the sums are done here in plain loops."""

    def function(x):
        return jnp.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)

    got = apply_tiled(function, IMAGES, 6, 4, tie_clip=tie_clip, max_tiles=2)
    tiles = lay_tiles((12, 18), 6, 4)
    sums, total = np.zeros(IMAGES.shape), np.zeros((12, 18, 1))
    for (row, column), tie in zip(tiles.starts, tiles.weights(tie_clip), strict=True):
        place = np.s_[row : row + 6, column : column + 6]
        weight = tie * border_weights((6, 6))[..., None]
        sums[:, *place] += weight * np.asarray(function(IMAGES[:, *place]))
        total[place] += weight
    np.testing.assert_allclose(got, sums / total, rtol=1e-5, atol=1e-6)


def test_larger_and_smaller_results():
    def enlarge(x):
        return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)[..., :1]

    def shrink(x):
        return x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean((2, 4))

    np.testing.assert_allclose(apply_tiled(enlarge, IMAGES, 4, 3, scale=2), enlarge(IMAGES), rtol=1e-5)
    got = apply_tiled(shrink, IMAGES, 4, 2, scale=Fraction(1, 2), max_tiles=4)
    np.testing.assert_allclose(got, shrink(IMAGES), rtol=1e-5, atol=1e-6)


def test_several_arrays_are_cut_alike_and_tiles_stay_with_their_image():
    numbers = jnp.broadcast_to(jnp.arange(2.0).reshape(2, 1, 1, 1), (2, 12, 18, 1))
    seen = []

    def function(images):
        seen.append(images["z"].shape)
        return {"sum": images["z"] + images["number"], "none": None}

    got = apply_tiled(function, {"z": IMAGES[..., :1], "number": numbers}, 4, 4, max_tiles=5)
    np.testing.assert_allclose(got["sum"], IMAGES[..., :1] + numbers, rtol=1e-5, atol=1e-5)
    assert got["none"] is None and set(seen) == {(10, 4, 4, 1)}  # 15 tiles in parts of 5, of two images


def test_memory_is_bounded():
    """Four times the canvas takes no more memory than its own size; all tiles at once take more."""

    def wide(x):
        return jnp.tanh(jnp.repeat(x, 64, -1)).sum(-1, keepdims=True)

    def temporary(side, max_tiles):
        x = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
        run = jax.jit(lambda x: apply_tiled(wide, x, 32, 16, max_tiles=max_tiles))
        return run.lower(x).compile().memory_analysis().temp_size_in_bytes

    canvas = 4 * 256**2
    assert temporary(256, 1) < 4 * canvas < temporary(256, 1000)
    assert temporary(256, 1) - temporary(128, 1) < 3 * canvas


def test_mistakes():
    with pytest.raises(UserError, match="stride of 1 to their side"):
        lay_tiles((8, 8), 4, 5)
    with pytest.raises(UserError, match="divide by 2"):
        apply_tiled(jnp.tanh, IMAGES, 4, 3, scale=Fraction(1, 2))
