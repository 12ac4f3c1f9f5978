"""Random holes: sizes, repeatability, shares, and how strokes and boxes of each kind look."""

import numpy as np
import pytest
from scipy import ndimage

from pdm_jax.data.masks import SETTINGS, draw_mask
from pdm_jax.errors import UserError


def _masks(kind, count=200, size=(64, 64), **options):
    rng = np.random.default_rng(3)
    return [draw_mask(size, rng, kind, **options)[..., 0] for _ in range(count)]


def _is_box(mask) -> bool:
    rows, columns = np.nonzero(mask)
    return mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("size", [(8, 8), (16, 16), (24, 64), (96, 40)])
def test_a_mask_hangs_on_the_seed_alone_and_leaves_something_on_both_sides(kind, size):
    first, again, other = (draw_mask(size, np.random.default_rng(seed), kind) for seed in (5, 5, 6))
    assert first.shape == (*size, 1) and first.dtype == np.uint8
    assert set(np.unique(first)) == {0, 1}
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", SETTINGS)
def test_shares(kind):
    shares = [mask.mean() for mask in _masks(kind)]
    assert max(shares) <= SETTINGS[kind].most and 0.2 < np.mean(shares) < 0.42
    wanted = [mask.mean() for mask in _masks(kind, 10, share=(0.4, 0.5))]
    assert min(wanted) >= 0.4 and max(wanted) <= 0.5


def test_only_training_masks_cover_more_than_half():
    assert max(mask.mean() for mask in _masks("mixed")) > 0.7


def test_thicker_masks_have_thicker_parts():
    """The largest distance from inside a mask to its border, on average."""
    thickness = {
        kind: np.mean([ndimage.distance_transform_cdt(mask).max() for mask in _masks(kind, 60)])
        for kind in ("thin", "medium", "thick")
    }
    assert thickness["thin"] < 0.6 * thickness["medium"] and thickness["medium"] < 0.8 * thickness["thick"]


def test_lengths_grow_with_the_image():
    small, large = (np.mean([mask.mean() for mask in _masks("medium", 100, (side, side))]) for side in (64, 256))
    assert small == pytest.approx(large, abs=0.06)


def test_masks_of_one_box():
    """Of training masks, half are of boxes, a quarter of those of a single one: its sides and margin are LaMa's."""
    single = [mask for mask in _masks("mixed", 1500, (256, 256)) if _is_box(mask)]
    assert len(single) / 1500 == pytest.approx(1 / 8, abs=0.04)
    sides = np.array([[np.any(mask, axis).sum() for axis in (0, 1)] for mask in single])
    assert 30 <= sides.min() < 35 and 145 < sides.max() <= 150
    for mask in single:
        rows, columns = np.nonzero(mask)
        assert min(rows.min(), columns.min(), 255 - rows.max(), 255 - columns.max()) >= 10


def test_strokes_only():
    assert not any(_is_box(mask) for mask in _masks("thin", 50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "huge"}, "choose thin, medium, thick, mixed"),
        ({"kind": "medium", "share": (0.97, 1.0)}, "none covers 0.97 to 1 of the image"),
        ({"kind": "mixed", "size": (1, 1)}, "of 1x1 pixels"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(UserError, match=message):
        draw_mask(**{"size": (16, 16), "rng": np.random.default_rng(0), **options})
