"""A user's pictures: upright, opaque, any size; masks that fit."""

import numpy as np
import pytest
from PIL import Image

from pdm_jax.data.pictures import read_mask, read_picture
from pdm_jax.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


@pytest.fixture
def saved(tmp_path):
    """Saves an image or an array as a file; returns its path."""

    def save(image, name="picture.png", **options):
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def test_colour_and_grey(saved):
    picture = read_picture(saved(PIXELS), 3)
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert picture.transparent is None
    grey = saved(PIXELS[..., 0])
    np.testing.assert_array_equal(read_picture(grey, 3).pixels, np.repeat(PIXELS[..., :1], 3, 2))
    np.testing.assert_array_equal(read_picture(grey, 1).pixels, PIXELS[..., :1])
    assert read_picture(saved(PIXELS), 1).pixels.shape == (5, 7, 1)


def test_transparency_lies_on_white_and_is_told(saved):
    alpha = np.full((5, 7, 1), 255, np.uint8)
    alpha[1, 2], alpha[3, 4] = 0, 254
    picture = read_picture(saved(np.concatenate([PIXELS, alpha], 2)), 3)
    assert np.argwhere(picture.transparent).tolist() == [[1, 2], [3, 4]]
    np.testing.assert_array_equal(picture.pixels[1, 2], 255)
    np.testing.assert_array_equal(picture.pixels[~picture.transparent], PIXELS[~picture.transparent])


def test_a_palette_with_a_transparent_colour(saved):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([9, 8, 7, 0, 0, 90])
    image.putpixel((1, 0), 1)
    picture = read_picture(saved(image, transparency=1), 3)
    np.testing.assert_array_equal(picture.pixels, [[[9, 8, 7], [255, 255, 255]]])
    np.testing.assert_array_equal(picture.transparent, [[False, True]])


def test_a_picture_on_its_side_is_turned_with_its_transparency(saved):
    alpha = np.full((5, 7), 255, np.uint8)
    alpha[:, 0] = 0  # left
    exif = Image.Exif()
    exif[0x0112] = 6  # left comes to the top
    picture = read_picture(saved(np.dstack([PIXELS, alpha]), exif=exif), 3)
    assert picture.pixels.shape == (7, 5, 3)
    np.testing.assert_array_equal(picture.transparent, np.arange(7)[:, None] + np.zeros((7, 5)) < 1)


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    for name, message in [("text.png", "is no known kind of image"), ("none.png", "No such file"), (".", "directory")]:
        with pytest.raises(UserError, match=f"{message}.*; give an image file"):
            read_picture(tmp_path / name, 3)


def test_a_mask_is_bright_where_to_fill(saved):
    mask = np.zeros((5, 7), np.uint8)
    mask[2, 3], mask[2, 4] = 128, 127
    np.testing.assert_array_equal(np.argwhere(read_mask(saved(mask), (5, 7))), [[2, 3]])
    assert read_mask(saved(mask > 127), (5, 7)).sum() == 1  # one bit a pixel


@pytest.mark.parametrize(
    "mask, message",
    [
        (np.zeros((7, 5), np.uint8), r"has 7x5 pixels and the picture 5x7 \(height x width\); give a mask of"),
        (np.zeros((5, 7), np.uint8), "leaves nothing to fill; white is filled, black is kept"),
        (np.full((5, 7), 255, np.uint8), "leaves nothing of the picture; white is filled"),
    ],
)
def test_masks_that_do_not_fit(saved, mask, message):
    with pytest.raises(UserError, match=message):
        read_mask(saved(mask), (5, 7))
