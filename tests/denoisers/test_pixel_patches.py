"""Patches by themselves: which pixels, conditions and positions reach them at each step, and where results go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.denoisers.pixel_patches import half_shifted, independent, moved_positions, randomly_shifted
from pdm_jax.errors import UserError
from pdm_jax.ops.collage import shifted_positions
from pdm_jax.ops.positions import grid, interpolated
from pdm_jax.types import Cond, Prediction, Step

P = 4
WRAPPERS = [independent, half_shifted, randomly_shifted]


def images(seed=0, channels=3):
    return jax.random.normal(jax.random.key(seed), (2, 8, 12, channels))


def positions(batch=2):
    return jnp.broadcast_to(grid(2, 3), (batch, 3, 4, 3))


def at(index, key=0, t=5):
    return Step(jnp.asarray(t), index=jnp.int32(index), key=jax.random.key(key))


def mean_of_patch(z, step, cond):
    """Says at each pixel what the mean of its patch is, and as eps its position's row times the code."""
    mean = jnp.broadcast_to(z.mean((1, 2), keepdims=True), z.shape)
    told = (cond.position[:, :1] * cond.code[:, :1] * cond.position[:, 2:])[..., None, None]
    return Prediction(mean, jnp.broadcast_to(told, z.shape))


def run(wrapper, denoiser, z, step, cond):
    return jax.jit(lambda z, step, cond: wrapper(denoiser, P)(z, step, cond))(z, step, cond)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("index", [0, 1])
def test_pointwise_denoisers_are_unchanged(wrapper, index):
    """Whatever is cut comes back to its place, with the conditions and the last prediction that lie over the image."""

    def pointwise(z, step, cond):
        t = jnp.asarray(step.t, jnp.float32).reshape(-1, 1, 1, 1)
        return Prediction(z * 2 + step.previous.x0 + cond.concat, z + cond.mask + t, variance=z)

    z, previous = images(), Prediction(images(1), images(2))
    cond = Cond(concat=images(3), mask=images(4, 1))
    for t in (7, jnp.array([3, 8])):
        step = Step(jnp.asarray(t), index=jnp.int32(index), key=jax.random.key(1), previous=previous)
        got = run(wrapper, pointwise, z, step, cond)
        np.testing.assert_allclose(got.x0, z * 2 + previous.x0 + cond.concat, rtol=1e-6)
        np.testing.assert_allclose(
            got.eps, z + cond.mask + np.broadcast_to(np.float32(t), 2).reshape(2, 1, 1, 1), rtol=1e-6
        )
        np.testing.assert_array_equal(got.variance, z)


def test_aligned_patches_are_the_tiles():
    z, cond = images(), Cond(position=positions(), code=jnp.array([[1.0], [10.0]]))
    for wrapper in (independent, half_shifted):
        got = run(wrapper, mean_of_patch, z, at(0), cond)
        tiles = z.reshape(2, 2, P, 3, P, 3).mean((2, 4)).repeat(P, 1).repeat(P, 2)
        np.testing.assert_allclose(got.x0, tiles, atol=1e-6)
        rows = jnp.array([0.5, 1.5]).repeat(P)[None, :, None, None] * cond.code[:, :, None, None]
        np.testing.assert_allclose(got.eps, jnp.broadcast_to(rows, z.shape))


def test_every_second_step_is_half_a_patch_off_with_zeros_around():
    z, cond = images(), Cond(position=positions(), code=jnp.ones((2, 1)))
    got = run(half_shifted, mean_of_patch, z, at(1), cond)
    padded = jnp.pad(z, ((0, 0), (2, 2), (2, 2), (0, 0)))
    tiles = padded.reshape(2, 3, P, 4, P, 3).mean((2, 4)).repeat(P, 1).repeat(P, 2)[:, 2:-2, 2:-2]
    np.testing.assert_allclose(got.x0, tiles, atol=1e-6)
    rows = np.arange(3).repeat(P)[2:-2].astype(np.float32)  # the encoder's positions
    np.testing.assert_allclose(got.eps[0, :, 0, 0], rows)


def test_random_shifts_change_with_the_key_and_cover_every_phase():
    z, cond = images(), Cond(position=positions(), code=jnp.ones((2, 1)))
    wrapped, found = jax.jit(randomly_shifted(mean_of_patch, P)), set()
    for key in range(60):
        x0 = wrapped(z, at(0, key), cond).x0[0, :, :, 0]
        # borders are where the mean changes
        row, col = (1 + int(np.flatnonzero(np.abs(np.diff(x, axis=0)).max(1) > 1e-6)[0]) for x in (x0, x0.T))
        found.add((row % P, col % P))
    assert found == {(row, col) for row in range(P) for col in range(P)}
    np.testing.assert_array_equal(wrapped(z, at(0, 3), cond).x0, wrapped(z, at(1, 3), cond).x0)  # the key alone decides


def test_positions_between_the_encoders():
    position = positions(1)
    np.testing.assert_allclose(moved_positions(position, (P // 2, P // 2), P), position)
    aligned = moved_positions(position, (0, 0), P)
    np.testing.assert_allclose(aligned[:, 1:, 1:], shifted_positions(position))
    assert aligned[0, 0, 0].tolist() == [-0.5, -0.5, 1]  # hangs over the border altogether
    assert moved_positions(position, (3, 1), P)[0, 1, 2].tolist() == [1.25, 1.75, 1]
    doubled = jnp.asarray(interpolated(2, 3, 2))[None]  # positions go in halves
    assert moved_positions(doubled, (3, 0), P)[0, 1, 1].tolist() == [0.625, 0.25, 1]


def test_a_position_is_known_if_all_it_is_made_of_are():
    position = positions(1).at[0, 1, 1].set(0)
    known = {shift: np.asarray(moved_positions(position, shift, P)[0, :, :, 2]) for shift in ((2, 2), (2, 3), (0, 0))}
    assert np.argwhere(known[2, 2] == 0).tolist() == [[1, 1]]
    assert np.argwhere(known[2, 3] == 0).tolist() == [[1, 0], [1, 1]]
    assert np.argwhere(known[0, 0][1:, 1:] == 0).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    np.testing.assert_array_equal(known[0, 0][1:, 1:], shifted_positions(position)[0, :, :, 2])


def test_mistakes_are_one_line():
    z, cond = images(), Cond()
    for wrapper in WRAPPERS:
        with pytest.raises(UserError, match="8x12 cannot be cut into patches of 5x5"):
            wrapper(mean_of_patch, 5)(z, at(0), cond)
    with pytest.raises(UserError, match="for sampling; train on patches from anywhere"):
        half_shifted(mean_of_patch, P)(z, Step(jnp.int32(0)), cond)
    with pytest.raises(UserError, match="give `sample` a step_key"):
        randomly_shifted(mean_of_patch, P)(z, Step(jnp.int32(0)), cond)
