"""Single pictures and masks of a user: files of any size and kind to pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from pdm_jax.data.codec import decode
from pdm_jax.data.record import BrokenImageError, Record
from pdm_jax.errors import UserError


class Picture(NamedTuple):
    """A picture, upright and opaque: what is transparent lies on white."""

    pixels: np.ndarray  # (H, W, C) uint8
    transparent: np.ndarray | None  # (H, W) bool, true where a pixel is not wholly opaque; None without transparency


def read_picture(path: str | Path, channels: int) -> Picture:
    """Reads a picture of any size: EXIF orientation is applied, palettes and 16-bit grey are converted.

    Args:
      channels: 3 makes grey pictures colour ones, 1 makes colour pictures grey.

    Raises:
      UserError: the file cannot be read, or is no picture.
    """
    try:
        content = Path(path).read_bytes()
        pixels = np.asarray(decode(Record(content, 0, str(path)), channels))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give an image file") from error
    except BrokenImageError as error:
        raise UserError(f"{error}; give an image file, such as a PNG or a JPEG") from error
    return Picture(pixels.reshape(*pixels.shape[:2], channels), _transparent(content))


def read_mask(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """Reads where a picture of `size` (height, width) is to be filled: (H, W) bool, true where the file is bright.

    Raises:
      UserError: the file cannot be read, is of another size, or leaves nothing to fill or nothing known.
    """
    hole = read_picture(path, 1).pixels[..., 0] >= 128
    if hole.shape != size:
        (height, width), (wanted_height, wanted_width) = hole.shape, size
        raise UserError(
            f"the mask {path} has {height}x{width} pixels and the picture {wanted_height}x{wanted_width} "
            "(height x width); give a mask of the picture's size"
        )
    check_hole(hole, f"the mask {path}", "white is filled, black is kept")
    return hole


def check_hole(hole: np.ndarray, what: str, rule: str) -> None:
    """Raises a `UserError` unless `hole` (H, W) bool, which is that of `what`, has pixels to fill and pixels to keep.

    Args:
      rule: how a user marks pixels, for the message.
    """
    if not hole.any():
        raise UserError(f"{what} leaves nothing to fill; {rule}")
    if hole.all():
        raise UserError(f"{what} leaves nothing of the picture; {rule} (whole images are made by: pdm sample)")


def _transparent(content: bytes) -> np.ndarray | None:
    with Image.open(io.BytesIO(content)) as image:
        if not image.has_transparency_data:
            return None
        return np.asarray(ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")) < 255
