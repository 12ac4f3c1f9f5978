"""Encoded images to pixels and back (Pillow)."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from pdm_jax.data.record import BrokenImageError, Record


class Decoded(NamedTuple):
    """An image that may be smaller than what its file holds."""

    image: Image.Image
    size: tuple[int, int]  # (width, height) in the file, upright
    scale: float  # pixels of the file per pixel of the image, along a side: 1, 2, 4 or 8


def decode(record: Record, channels: int) -> Image.Image:
    """Decodes a record to 8 bits a channel, upright: mode "RGB" (channels 3) or "L" (channels 1).

    EXIF orientation is applied, transparency is laid on white, 16-bit grey is scaled, of animations the first
    frame is taken.

    Raises:
      BrokenImageError: the bytes are no image, are cut off or damaged.
    """
    return decode_reduced(record, channels, None).image


def decode_reduced(record: Record, channels: int, least: tuple[int, int] | None) -> Decoded:
    """The same, but a JPEG comes out at 1/2, 1/4 or 1/8 of its size if that is at least `least` (width, height).

    Its blocks are then decoded at the smaller size, which is much faster. Where the size does not divide, the file's
    last row and column reach beyond the picture. None decodes at full size. Errors as of `decode`.
    """
    mode = {1: "L", 3: "RGB"}[channels]
    if isinstance(record.image, np.ndarray):
        image = Image.fromarray(record.image)
        return Decoded(_in_mode(image, mode), image.size, 1)
    try:
        with Image.open(io.BytesIO(record.image)) as image:
            size, scale = image.size, 1
            if least is not None and (drafted := image.draft(None, least[::-1] if _is_lying(image) else least)):
                scale = size[0] / drafted[1][2]
            lying = image.size
            ImageOps.exif_transpose(image, in_place=True)  # reads the pixels; else it would copy them, too
            return Decoded(_in_mode(_flat(image), mode), size if image.size == lying else size[::-1], scale)
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        reason = "is no known kind of image" if isinstance(error, Image.UnidentifiedImageError) else error
        raise BrokenImageError(f"{record.name}: {reason}") from error


def decode_classes(record: Record) -> Image.Image:
    """A record's class map as an image of mode "L", whose values are class numbers: grey values or palette entries.

    Raises:
      BrokenImageError: the bytes are no image, are damaged, or are neither 8-bit grey nor a palette.
    """
    if isinstance(record.map, np.ndarray):
        return Image.fromarray(record.map)
    try:
        with Image.open(io.BytesIO(record.map)) as image:
            if image.mode not in ("L", "P"):
                raise ValueError(f"has the mode {image.mode}; expected class numbers as 8-bit grey or a palette")
            return Image.fromarray(np.asarray(image))
    except Exception as error:
        raise BrokenImageError(f"the class map of {record.name}: {error}") from error


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG bytes of uint8 pixels (H, W), (H, W, 1) or (H, W, 3)."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(file, "png")
    return file.getvalue()


def encode_smaller(image: Image.Image, size: tuple[int, int]) -> bytes:
    """A JPEG of an RGB image that just covers `size` (width, height); quality 95, colours at full resolution."""
    target, side = min(zip(size, image.size, strict=True), key=lambda pair: pair[1] / pair[0])  # the tighter of both
    sides = [max(least, round(whole * target / side)) for least, whole in zip(size, image.size, strict=True)]
    file = io.BytesIO()
    image.resize(sides, Image.Resampling.BICUBIC).save(file, "jpeg", quality=95, subsampling=0)
    return file.getvalue()


def _is_lying(image: Image.Image) -> bool:
    """Whether the EXIF orientation turns an image by a quarter."""
    return image.getexif().get(ExifTags.Base.Orientation, 1) >= 5


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # which copies what has the mode already


def _flat(image: Image.Image) -> Image.Image:
    """The image opaque and in 8 bits a channel."""
    if image.mode.startswith("I"):  # 16-bit grey, also inside 32-bit integers
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("has float pixels of unknown range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image
