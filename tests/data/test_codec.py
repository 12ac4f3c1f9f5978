"""Every kind of file comes out upright, opaque and in 8 bits."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pdm_jax.data.codec import decode, decode_reduced, encode_png
from pdm_jax.data.record import BrokenImageError, Record


def _encoded(image: Image.Image, kind: str, **options) -> Record:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Record(file.getvalue(), 0, "some.file")


def _pixels(record: Record, channels: int = 3, **options) -> np.ndarray:
    return np.asarray(decode(record, channels, **options))


@settings(deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))))
def test_png_round_trip_is_exact(pixels):
    channels = pixels.shape[-1]
    decoded = _pixels(Record(encode_png(pixels), 0, "x"), channels)
    np.testing.assert_array_equal(decoded.reshape(pixels.shape), pixels)


def test_array_records_are_taken_as_they_are():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(_pixels(Record(pixels, 0, "x"), 1), pixels)
    np.testing.assert_array_equal(_pixels(Record(pixels, 0, "x"), 3), np.stack([pixels] * 3, -1))


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))  # white is left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left comes to the top
    upright = _pixels(_encoded(image, "jpeg", exif=exif))
    assert upright.shape == (40, 20, 3)
    assert upright[:15].min() > 240
    assert upright[25:].max() < 15


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (200, 0, 0, 0))
    np.testing.assert_array_equal(_pixels(_encoded(image, "png")), [[[200, 0, 0], [255, 255, 255]]])
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([200, 0, 0, 0, 0, 90])
    palette.putpixel((1, 0), 1)
    np.testing.assert_array_equal(_pixels(_encoded(palette, "png")), [[[200, 0, 0], [0, 0, 90]]])
    np.testing.assert_array_equal(_pixels(_encoded(palette, "png", transparency=1)), [[[200, 0, 0], [255, 255, 255]]])


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bit_grey_is_scaled(kind):
    image = Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16))
    np.testing.assert_array_equal(_pixels(_encoded(image, kind), 1), [[0, 100, 255]])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK"])
def test_odd_modes_become_rgb(mode):
    kind = "tiff" if mode == "CMYK" else "png"
    pixels = _pixels(_encoded(Image.new("RGB", (4, 4), "white").convert(mode), kind))
    np.testing.assert_array_equal(pixels, np.full((4, 4, 3), 255))


@pytest.mark.parametrize("kind", ["gif", "webp", "bmp", "jpeg"])
def test_common_formats(kind):
    pixels = _pixels(_encoded(Image.new("RGB", (16, 8), (255, 0, 0)), kind)).astype(int)
    assert pixels.shape == (8, 16, 3)
    assert abs(pixels - [255, 0, 0]).max() <= 4


def test_large_jpegs_are_decoded_at_reduced_size_but_not_below_the_least_size():
    record = _encoded(Image.linear_gradient("L").resize((401, 320)), "jpeg")
    decoded = decode_reduced(record, 3, least=(100, 100))  # a quarter would leave 80
    assert (decoded.image.size, decoded.size, decoded.scale) == ((201, 160), (401, 320), 2)
    for least in ((320, 320), (201, 160), None):
        decoded = decode_reduced(record, 3, least)
        assert (decoded.image.size, decoded.size, decoded.scale) == ((401, 320), (401, 320), 1)


def test_size_of_a_turned_jpeg_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    record = _encoded(Image.new("RGB", (400, 100)), "jpeg", exif=exif)
    for least, scale in (((20, 20), 4), ((25, 100), 4), ((26, 20), 2)):
        decoded = decode_reduced(record, 3, least)
        assert (decoded.image.size, decoded.size, decoded.scale) == ((100 // scale, 400 // scale), (100, 400), scale)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text"])
def test_damage_is_a_broken_image_that_is_named(damage):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for kind in ("png", "jpeg"):
        data = _encoded(Image.fromarray(noise), kind).image
        with pytest.raises(BrokenImageError, match=r"some\.file: ."):
            decode(Record(damage(data), 0, "some.file"), 3)


def test_float_pixels_are_refused():
    record = _encoded(Image.fromarray(np.ones((2, 2), np.float32)), "tiff")
    with pytest.raises(BrokenImageError, match="float"):
        decode(record, 1)
