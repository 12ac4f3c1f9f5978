"""Crops lie where they should, resizing antialiases down and is smooth up, flips mirror."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pdm_jax.data.record import Record
from pdm_jax.data.sources import open_source
from pdm_jax.data.transforms import CROPS, ImageTransform, height_and_width, largest_window


def _apply(transform: ImageTransform, pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    return transform(Record(pixels, 0, "x"), np.random.default_rng(seed))


@settings(deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.one_of(st.integers(1, 24), st.tuples(st.integers(1, 24), st.integers(1, 24))),
    channels=st.sampled_from([1, 3]),
    crop=st.sampled_from(CROPS),
    min_crop=st.floats(0.01, 1.0),
    flip=st.booleans(),
    seed=st.integers(0, 9),
)
def test_any_image_becomes_the_wanted_size(height, width, size, channels, crop, min_crop, flip, seed):
    pixels = np.full((height, width, 3), 77, np.uint8)
    out = _apply(ImageTransform(size, channels, crop, min_crop, flip), pixels, seed)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, np.full((*height_and_width(size), channels), 77))


@given(*[st.integers(1, 60)] * 4)
def test_the_largest_window_has_the_wanted_aspect(width, height, target_width, target_height):
    found = largest_window((width, height), target_width, target_height)
    assert 1 <= found[0] <= width and 1 <= found[1] <= height and (found[0] == width or found[1] == height)
    factor = min(width / target_width, height / target_height)
    assert abs(found[0] - factor * target_width) < 1 and abs(found[1] - factor * target_height) < 1


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.integers(1, 24),
    min_crop=st.floats(0.01, 1.0),
    seed=st.integers(0, 9),
)
def test_squares_are_cut_by_the_shorter_side(shape, size, min_crop, seed):
    """Written out once more for squares alone: what runs and statistics of squares were made with stays as it was."""
    pixels, (height, width) = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8), shape
    rng = np.random.default_rng(seed)
    side = max(1, round(rng.uniform(min_crop, 1.0) * min(shape)))
    left, top = rng.integers(0, width - side, endpoint=True), rng.integers(0, height - side, endpoint=True)
    middle = (width - min(shape)) // 2, (height - min(shape)) // 2
    windows = {"random": (left, top, left + side, top + side), "center": (*middle, *(np.add(middle, min(shape))))}
    for crop, box in windows.items():
        expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box=box))
        for same in (size, (size, size)):
            np.testing.assert_array_equal(_apply(ImageTransform(same, 3, crop, min_crop), pixels, seed), expected)


def test_a_rectangle_is_cut_out_of_the_middle():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    np.testing.assert_array_equal(_apply(ImageTransform((8, 20), 3), pixels), pixels[2:10])
    np.testing.assert_array_equal(_apply(ImageTransform((12, 6), 3), pixels), pixels[:, 7:13])


def test_stretching_keeps_the_whole_image():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((9, 17), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(_apply(ImageTransform((17, 9), 3, "stretch"), pixels), expected)


def test_center_crop_of_the_right_size_changes_no_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (10, 17, 3), np.uint8)
    np.testing.assert_array_equal(_apply(ImageTransform(10, 3), pixels), pixels[:, 3:13])
    np.testing.assert_array_equal(
        _apply(ImageTransform(10, 3), pixels.transpose(1, 0, 2)), pixels.transpose(1, 0, 2)[3:13]
    )


def test_shrinking_antialiases():
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = _apply(ImageTransform(8, 1), checkers)
    assert np.abs(small.astype(int) - 127).max() <= 2


def test_random_crops_stay_within_bounds_and_reach_the_edges():
    ramp = np.tile(np.arange(200, dtype=np.uint8), (100, 1))  # each column has its number as value
    crops = [_apply(ImageTransform(50, 1, "random", 0.5), ramp, seed)[..., 0].astype(int) for seed in range(200)]
    widths = np.array([crop[0, -1] - crop[0, 0] for crop in crops])  # of windows of 50..100 columns, one sample less
    assert widths.min() in range(47, 55)
    assert widths.max() in range(93, 101)
    assert min(crop.min() for crop in crops) <= 5
    assert max(crop.max() for crop in crops) >= 194


def test_flip_mirrors_half_of_the_images():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    flipped = 0
    for seed in range(100):
        out = _apply(ImageTransform(8, 3, flip=True), pixels, seed)
        is_flipped = np.array_equal(out, pixels[:, ::-1])
        assert is_flipped or np.array_equal(out, pixels)
        flipped += is_flipped
    assert 30 < flipped < 70


def test_same_generator_same_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    transform = ImageTransform(8, 3, "random", 0.5, flip=True)
    np.testing.assert_array_equal(_apply(transform, pixels, 3), _apply(transform, pixels, 3))
    assert not np.array_equal(_apply(transform, pixels, 3), _apply(transform, pixels, 4))


@pytest.mark.parametrize(("stored", "orientation"), [((617, 511), 1), ((616, 512), 6)])
@pytest.mark.parametrize(
    ("size", "crop", "least_psnr"),
    [
        *((64, "center", 43), (64, "random", 43), (200, "center", 34)),
        *(((32, 128), "center", 43), ((128, 32), "random", 43), ((50, 200), "stretch", 34)),
    ],
)
def test_reduced_jpeg_decoding_shows_the_same_window(size, crop, least_psnr, stored, orientation):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    photo = np.asarray(open_source("builtin:photos")[0].image)
    Image.fromarray(photo).resize(stored, Image.Resampling.BICUBIC).save(file, "jpeg", quality=95, exif=exif)
    record = Record(file.getvalue(), 0, "x")
    for seed in range(3):
        reduced, full = (
            ImageTransform(size, 3, crop, 0.8, reduced=reduced)(record, np.random.default_rng(seed)).astype(float)
            for reduced in (True, False)
        )
        error = np.square(reduced - full).mean()
        assert error > 0
        assert 10 * np.log10(255**2 / error) > least_psnr


@pytest.mark.parametrize("size", [16, 32])
def test_enlarged_digits_are_smooth(size):
    record = open_source("builtin:digits")[0]
    out = ImageTransform(size, 1)(record, np.random.default_rng(0))[..., 0].astype(int)
    repeated = np.kron(record.image, np.ones((size // 8, size // 8), int)).astype(int)
    assert np.abs(np.diff(out)).max() < 0.75 * np.abs(np.diff(repeated)).max()
    means = out.reshape(8, size // 8, 8, size // 8).mean((1, 3))
    assert np.corrcoef(means.ravel(), record.image.ravel())[0, 1] > 0.98  # still the same digit
