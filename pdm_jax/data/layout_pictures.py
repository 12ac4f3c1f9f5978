"""Layouts as pictures, for reports beside the images that were made of them."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pdm_jax.data.layouts import WHOLE, Box, LayoutObject

_GOLDEN = 0.618034  # steps of it around the circle of hues keep any number of classes apart


def draw_layout(
    objects: Iterable[LayoutObject], size: tuple[int, int], names: Sequence[str] = (), window: Box = WHOLE
) -> np.ndarray:
    """Boxes on white with what is in them, large ones first, and the window as a grey frame.

    Args:
      size: (height, width) of the picture, which shows the whole image.
      names: of the classes; a class without one is shown by its number.

    Returns:
      (height, width, 3) uint8.
    """
    height, width = size
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(8, min(size) // 16))
    line = max(1, min(size) // 96)
    if window != WHOLE:
        draw.rectangle(_pixels(window, size), outline="silver", width=line)
    for thing in sorted(objects, key=lambda thing: -thing.box[2] * thing.box[3]):
        box, color = _pixels(thing.box, size), color_of(thing.number)
        draw.rectangle(box, outline=color, width=line)
        draw.text((box[0] + line + 1, box[1] + line), _text(thing, names), fill=color, font=font)
    return np.asarray(picture)


def _pixels(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the pixels at a box's edges."""
    (height, width), (left, top) = size, box[:2]
    right, bottom = left + box[2], top + box[3]
    x0, y0 = round(left * (width - 1)), round(top * (height - 1))
    return x0, y0, max(x0, round(right * (width - 1))), max(y0, round(bottom * (height - 1)))


def color_of(number: int) -> tuple[int, int, int]:
    """The colour of a class, the same in every picture."""
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.9, 0.7))


def _text(thing: LayoutObject, names: Sequence[str]) -> str:
    name = names[thing.number] if thing.number < len(names) else str(thing.number)
    return " ".join([name, *(f"({flag})" for flag in sorted(thing.flags))])
