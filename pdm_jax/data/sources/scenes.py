"""Small scenes of real handwritten digits, with a caption, a layout and a class map: for trying every task at once."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pdm_jax.data.record import FIELDS, Record, Source
from pdm_jax.data.sources.builtin import NUMBER_WORDS, DigitsSource

_SCENES = 4096
_MOST = 4  # digits in a scene
_TRIALS = 12  # of places for them
_INK = 64  # from which grey value a pixel is a digit's


class ScenesSource(Source):
    """4096 black canvases with one to four of scikit-learn's handwritten digits, enlarged, at random places.

    * captions: "a three above a seven" of two digits, "a two, a five and a nine" of any number; left to right.
    * layout: the box around each digit, of the class that is its number.
    * map: 0 where there is no digit, else 1 + its number.

    Digits do not overlap. Scene i is drawn from a generator seeded with i, so that it is the same at every opening.
    """

    cacheable = True
    fields = FIELDS
    object_names = NUMBER_WORDS

    def __init__(self, side: int = 32):
        """`side` of the square canvas, in pixels."""
        self._digits = DigitsSource()
        self._side = side
        self.fingerprint = f"scenes{side}"

    def __len__(self) -> int:
        return _SCENES

    def __getitem__(self, index: int) -> Record:
        rng = np.random.default_rng(index)
        canvas = np.zeros((self._side, self._side), np.uint8)
        classes = np.zeros_like(canvas)
        boxes: dict[tuple[int, int, int, int], int] = {}  # (left, top, right, bottom): number
        count = rng.integers(1, _MOST, endpoint=True)
        for _ in range(_TRIALS):
            if len(boxes) < count:
                self._place(canvas, classes, boxes, rng)
        boxes = dict(sorted(boxes.items()))
        layout = tuple({"class": number, "box": _relative(box, self._side)} for box, number in boxes.items())
        return Record(canvas, index, f"scenes/{index}", None, _captions(boxes), layout, classes)

    def lacking(self, field: str) -> list[str]:
        return []

    def _place(self, canvas: np.ndarray, classes: np.ndarray, boxes: dict, rng: np.random.Generator) -> None:
        """Draws one more digit, unless the place drawn for it is taken."""
        digit = self._digits[int(rng.integers(len(self._digits)))]
        side = int(rng.integers(self._side // 4, self._side // 2, endpoint=True))
        left, top = (int(edge) for edge in rng.integers(0, self._side - side, 2, endpoint=True))
        if classes[top : top + side, left : left + side].any():
            return
        ink = np.asarray(Image.fromarray(digit.image).resize((side, side), Image.Resampling.BICUBIC))
        rows, cols = np.nonzero(ink >= _INK)
        canvas[top : top + side, left : left + side] = np.maximum(canvas[top : top + side, left : left + side], ink)
        classes[top + rows, left + cols] = 1 + digit.label
        box = left + cols.min(), top + rows.min(), left + cols.max() + 1, top + rows.max() + 1
        boxes[tuple(map(int, box))] = digit.label


def _relative(box: tuple[int, int, int, int], side: int) -> list[float]:
    """[left, top, width, height] in parts of the canvas."""
    left, top, right, bottom = (edge / side for edge in box)
    return [left, top, right - left, bottom - top]


def _captions(boxes: dict[tuple[int, int, int, int], int]) -> tuple[str, ...]:
    """What may be said of digits in boxes that are sorted from left to right; the most telling first."""
    words = [f"an {NUMBER_WORDS[number]}" if number == 8 else f"a {NUMBER_WORDS[number]}" for number in boxes.values()]
    listed = " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
    return (listed,) if len(words) != 2 else (_relation(*boxes, *words), listed)


def _relation(first: tuple, second: tuple, name: str, other: str) -> str:
    """How two digits lie to each other, of which the first lies more to the left."""
    (dx, dy) = (sum(second[axis::2]) - sum(first[axis::2]) for axis in (0, 1))
    if abs(dx) >= abs(dy):
        return f"{name} left of {other}"
    return f"{name} above {other}" if dy > 0 else f"{other} above {name}"
