"""The seam metric: about 1 on photographs wherever the grid lies, clearly above on tiled ones, with honest errors."""

import numpy as np
import pytest

from pdm_jax.data.sources import open_source
from pdm_jax.errors import UserError
from pdm_jax.evaluation.seams import check_period, phase_differences, seam_score

PERIOD = 12  # not a divisor of JPEG's blocks, which some of the photographs have
LARGER = (72 + PERIOD, 48 + PERIOD)  # room to move the grid


@pytest.fixture(scope="module")
def photos():
    """300 windows on the photographs, pixels as they are."""
    source, generator, crops = open_source("builtin:photos", "train"), np.random.default_rng(0), []
    for i in range(300):
        image = source[i].image
        row, col = (generator.integers(side - size) for side, size in zip(image.shape, LARGER, strict=False))
        crops.append(image[row : row + LARGER[0], col : col + LARGER[1]])
    return np.stack(crops)


def at_phase(photos, phase):
    return photos[:, phase : phase + 72, phase : phase + 48]


def offsets(num, deviation):
    """A brightness a tile, (num, 72, 48, 1)."""
    tiles = np.random.default_rng(1).normal(0, deviation, (num, 72 // PERIOD, 48 // PERIOD, 1))
    return tiles.repeat(PERIOD, 1).repeat(PERIOD, 2)


def score(images, period=PERIOD):
    return seam_score(phase_differences(images, period))


def test_photographs_have_no_seams_wherever_the_grid_lies(photos):
    found = [score(at_phase(photos, phase)) for phase in range(PERIOD)]
    assert all(0.95 < s.ratio < 1.05 and abs(s.z) < 3.5 for s in found)
    covered = sum(s.low <= 1 <= s.high for s in found)
    assert covered >= PERIOD - 2
    assert np.std([s.z for s in found]) == pytest.approx(1, abs=0.6)  # the error bar is as wide as the ratios vary


@pytest.mark.parametrize("deviation", [2, 8])
def test_slight_brightness_offsets_of_tiles_are_found(photos, deviation):
    tiled = np.clip(at_phase(photos, 0) + offsets(len(photos), deviation), 0, 255).astype(np.uint8)
    found, moved = score(tiled), score(tiled[:, 5:, 5:])
    assert found.ratio > 1.05 and found.low > 1.03 and found.z > 6 and found.p == 0.001
    assert moved.z < 3 < found.z  # the grid lies elsewhere


def test_patches_of_different_pictures(photos):
    images = at_phase(photos, 0)
    tiles = images.reshape(300, 6, PERIOD, 4, PERIOD, 3).swapaxes(2, 3).reshape(-1, PERIOD, PERIOD, 3)
    tiles = np.random.default_rng(2).permutation(tiles).reshape(300, 6, 4, PERIOD, PERIOD, 3)
    found = score(tiles.swapaxes(2, 3).reshape(images.shape))
    assert found.ratio > 3 and found.z > 20


def test_few_images_are_enough_for_strong_seams_and_say_how_sure(photos):
    images = np.clip(at_phase(photos, 0)[:4] + offsets(4, 20), 0, 255)
    found = score(images)
    assert found.low <= found.ratio <= found.high and found.p < 0.05
    assert score(images[:1]).p >= 1 / PERIOD / 2  # one image has twelve phases, and no more


def test_the_phases_are_known_places():
    """One step between columns: phase 0 where it is on a border, phase k at k pixels after it."""
    for phase in range(4):
        image = np.zeros((1, 4, 12, 1), np.float32)
        image[:, :, 4 + phase :] = 3
        differences = phase_differences(image, 4)  # one axis: the other has no border
        assert np.flatnonzero(differences[0]).tolist() == [phase]


def test_constant_images_and_constant_tiles():
    flat = np.full((3, 24, 24, 3), 7, np.uint8)
    assert score(flat, 6).ratio == 1 and score(flat, 6).z == 0 and score(flat, 6).p == 1
    tiles = np.kron(np.arange(16).reshape(4, 4), np.ones((6, 6))).astype(np.uint8)[None, ..., None]
    assert score(tiles, 6).ratio == float("inf") and score(tiles, 6).z > 0


def test_mistakes_are_one_line():
    check_period(8, 16, 8)
    with pytest.raises(UserError, match="an image of 15x8 is smaller than two patches of 8x8"):
        check_period(8, 15, 8)
    with pytest.raises(UserError, match="the seams' period is 1; expected"):
        phase_differences(np.zeros((1, 8, 8, 3)), 1)
