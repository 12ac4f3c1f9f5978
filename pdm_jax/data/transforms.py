"""From a record to an array of the wanted size: crop, resize, flip."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from pdm_jax.data.codec import decode
from pdm_jax.data.record import Record

# How many source pixels per target pixel a JPEG keeps when it is decoded at reduced size: the antialiasing filter
# then still does the last factor of two, and the result cannot be told from that of a full decode.
_OVERSAMPLING = 2


@dataclasses.dataclass(frozen=True)
class ImageTransform:
    """Decodes a record and makes a square uint8 image (size, size, channels) of it.

    The crop is one square window on the image, resized by an antialiased bicubic filter: "center" is the largest
    one in the middle (the same as resizing the shorter side and cutting the middle out), "random" has a side
    uniform in [min_crop, 1] of the shorter side and lies anywhere.
    """

    size: int
    channels: int
    crop: str = "center"
    min_crop: float = 1.0
    flip: bool = False

    @property
    def is_random(self) -> bool:
        """Whether two calls on a record may differ."""
        return self.crop == "random" or self.flip

    def __call__(self, record: Record, rng: np.random.Generator) -> np.ndarray:
        """One record as pixels; `rng` decides where to crop and whether to flip.

        Raises:
          BrokenImageError: the record does not decode.
        """
        least_side = _OVERSAMPLING * self.size / (self.min_crop if self.crop == "random" else 1.0)
        image = decode(record, self.channels, round(least_side))
        window = self._random_window(image, rng) if self.crop == "random" else _middle(image)
        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=window)
        pixels = np.asarray(image).reshape(self.size, self.size, self.channels)
        return pixels[:, ::-1] if self.flip and rng.random() < 0.5 else pixels

    def _random_window(self, image: Image.Image, rng: np.random.Generator) -> tuple[int, int, int, int]:
        side = max(1, round(rng.uniform(self.min_crop, 1.0) * min(image.size)))
        left = int(rng.integers(0, image.width - side, endpoint=True))
        top = int(rng.integers(0, image.height - side, endpoint=True))
        return left, top, left + side, top + side


def _middle(image: Image.Image) -> tuple[int, int, int, int]:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return left, top, left + side, top + side
