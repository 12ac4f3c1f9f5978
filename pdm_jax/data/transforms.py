"""From a record to an array of the wanted size: crop, resize, flip."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from pdm_jax.data.codec import decode_reduced
from pdm_jax.data.record import Record

CROPS = ("center", "random", "stretch")

# At least how many pixels of a reduced JPEG per wanted pixel, along a side: the antialiasing filter still does the last
# part. On photographs the median PSNR against a full decode is then 40 dB; it is 43 dB from 1.6 and 49 dB from 2.5 on.
_OVERSAMPLING = 1.25


class View(NamedTuple):
    """What is seen of an image: pixels, and where they lie."""

    pixels: np.ndarray  # uint8 (height, width, channels)
    window: tuple[float, float, float, float]  # left, top, width, height in parts of the image, before flipping
    flipped: bool  # left and right


@dataclasses.dataclass(frozen=True)
class ImageTransform:
    """Decodes a record and makes a uint8 image (height, width, channels) of it.

    A window on the image is resized by an antialiased bicubic filter. "center" is the largest one in the middle that
    has the wanted aspect (for squares the same as resizing the shorter side and cutting the middle out), "random" has
    sides of a part of its, uniform in [min_crop, 1], and lies anywhere; "stretch" is the whole image, whatever its
    aspect. `reduced` decodes large JPEGs at reduced size, which is faster: the window is the same, the pixels are
    nearly; for training, not for measuring.
    """

    size: int | tuple[int, int]  # of squares, or (height, width)
    channels: int
    crop: str = "center"
    min_crop: float = 1.0
    flip: bool = False
    reduced: bool = False

    @property
    def is_random(self) -> bool:
        """Whether two calls on a record may differ."""
        return self.crop == "random" or self.flip

    def __call__(self, record: Record, rng: np.random.Generator) -> np.ndarray:
        """The pixels of `view`."""
        return self.view(record, rng).pixels

    def view(self, record: Record, rng: np.random.Generator) -> View:
        """A view of a record's image; `rng` decides where to crop and whether to flip.

        Raises:
          BrokenImageError: the record does not decode.
        """
        height, width = height_and_width(self.size)
        image, size, scale = decode_reduced(record, self.channels, self._least(width, height) if self.reduced else None)
        window = self._window(size, width, height, rng)
        box = tuple(edge / scale for edge in window)
        image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
        pixels = np.asarray(image).reshape(height, width, self.channels)
        flipped = self.flip and bool(rng.random() < 0.5)
        (left, top, right, bottom), (whole_width, whole_height) = window, size
        parts = left / whole_width, top / whole_height, (right - left) / whole_width, (bottom - top) / whole_height
        return View(pixels[:, ::-1] if flipped else pixels, parts, flipped)

    def _least(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) that a reduced image needs for any window on it to have pixels enough."""
        part = self.min_crop if self.crop == "random" else 1.0
        return math.ceil(_OVERSAMPLING * width / part), math.ceil(_OVERSAMPLING * height / part)

    def _window(
        self, size: tuple[int, int], width: int, height: int, rng: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of what becomes width x height of an image of `size` (width, height)."""
        if self.crop == "stretch":
            return 0, 0, *size
        sides = largest_window(size, width, height)
        if self.crop == "center":
            left, top = ((whole - side) // 2 for whole, side in zip(size, sides, strict=True))
        else:
            part = rng.uniform(self.min_crop, 1.0)
            sides = tuple(max(1, round(part * side)) for side in sides)
            left, top = (int(rng.integers(whole - side + 1)) for whole, side in zip(size, sides, strict=True))
        return left, top, left + sides[0], top + sides[1]


def view_classes(classes: Image.Image, view: View) -> np.ndarray:
    """A class map, uint8 (height, width), cut, resized (nearest) and flipped as a view of its image is.

    The map may be of another size than the image, but is of the same scene, edge to edge.
    """
    height, width, _ = view.pixels.shape
    left, top, right, bottom = (part * side for part, side in zip(view.window, classes.size * 2, strict=True))
    box = left, top, min(left + right, classes.width), min(top + bottom, classes.height)  # sums may round up
    pixels = np.asarray(classes.resize((width, height), Image.Resampling.NEAREST, box=box))
    return pixels[:, ::-1] if view.flipped else pixels


def height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size that may be one number, of squares."""
    return (size, size) if isinstance(size, int) else size


def largest_window(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """The largest (width, height) inside an image of `size` (width, height) that has the aspect of width x height."""
    if size[0] * height <= size[1] * width:
        return size[0], max(1, round(size[0] * height / width))
    return max(1, round(size[1] * width / height)), size[1]
