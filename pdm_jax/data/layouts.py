"""Layouts: which objects lie where in an image, as files say it and as the tokens that a network reads.

A file says it as `{"objects": [{"class": 3, "box": [0.1, 0.2, 0.5, 0.25], "occluded": true}, ...]}`: `class` is a
number, or a name where the classes have names, `box` is [left, top, width, height] in parts of the image, and the flags
`group` (several of the class), `occluded`, `depiction` (a drawing of one) and `inside` (seen from within) are false
where they are left out.

Tokens are those of LDM's models (taming-transformers' boxes): three an object, its class and flags, its first and its
last corner; then padding; then two for the window that is seen of the image. LDM's OpenImages crops are those of
`config.data.crop = "random"`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pdm_jax.errors import UserError

Box = tuple[float, float, float, float]  # left, top, width, height in parts of the image

FLAGS = {"group": 1, "occluded": 2, "depiction": 4, "inside": 8}  # and their bits
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class LayoutObject:
    """An object in an image."""

    number: int  # of its class
    box: Box
    flags: frozenset[str] = frozenset()  # those of FLAGS that hold


@dataclasses.dataclass(frozen=True)
class LayoutCodec:
    """Objects to tokens and back. The defaults are those of LDM's layout model."""

    num_classes: int
    max_objects: int = 30
    num_tokens: int = 8192  # the vocabulary; corners lie on a square grid of at most so many places
    crop_tokens: bool = True  # whether tokens tell the window; else boxes are told as parts of it
    flags: Sequence[str] = tuple(FLAGS)  # those that are told

    def __post_init__(self):
        """Raises a `UserError` for a vocabulary that is too small for the classes."""
        if not 0 < self.num_classes < self.num_tokens:
            raise UserError(
                f"{self.num_classes} classes of objects do not fit a vocabulary of {self.num_tokens} tokens; "
                "expected at least one, and fewer classes than tokens"
            )

    @property
    def length(self) -> int:
        """Of all sequences."""
        return 3 * self.max_objects + 2 * self.crop_tokens

    @property
    def padding(self) -> int:
        """The token that is no object."""
        return self.num_tokens - 1

    def encode(
        self,
        objects: Iterable[LayoutObject],
        window: Box = WHOLE,
        flipped: bool = False,
        rng: np.random.Generator | None = None,
    ) -> np.ndarray:
        """Tokens of what is seen in a window on an image.

        Objects outside the window are left out, empty boxes too, and of more than `max_objects` the last ones. Flags
        are not told of a class whose token with them would be beyond the vocabulary.

        Args:
          flipped: whether left and right are exchanged after the window was cut.
          rng: shuffles the objects; None keeps their order.

        Returns:
          [length] int32.
        """
        seen = [thing for thing in objects if _overlap(thing.box, window)][: self.max_objects]
        if rng is not None:
            seen = [seen[i] for i in rng.permutation(len(seen))]
        frame = WHOLE if self.crop_tokens else window
        tokens = [token for thing in seen for token in self._triple(thing, frame, flipped)]
        tokens += [self.padding] * (3 * self.max_objects - len(tokens))
        if self.crop_tokens:
            tokens += self._corners(window, flipped)
        return np.array(tokens, np.int32)

    def decode(self, tokens: np.ndarray) -> tuple[list[LayoutObject], Box]:
        """The objects and the window of tokens [length]; boxes lie on the grid of corners.

        Without crop tokens, the window is the whole that boxes are parts of.
        """
        told = [int(token) for token in tokens]
        window = self._box(*told[-2:]) if self.crop_tokens else WHOLE
        triples = zip(*[iter(told[: 3 * self.max_objects])] * 3, strict=True)
        return [self._object(*triple) for triple in triples if triple[0] != self.padding], window

    def point(self, x: float, y: float) -> int:
        """The token of a place, in parts of the image; ties go to the even place of the grid."""
        side = math.isqrt(self.num_tokens)
        return round(y * (side - 1)) * side + round(x * (side - 1))

    def place(self, token: int) -> tuple[float, float]:
        """The (x, y) that a token stands for."""
        side = math.isqrt(self.num_tokens)
        return token % side / (side - 1), token // side / (side - 1)

    def _triple(self, thing: LayoutObject, frame: Box, flipped: bool) -> list[int]:
        bits = sum(FLAGS[flag] for flag in self.flags if flag in thing.flags)
        name = thing.number + self.num_classes * bits
        return [name if name < self.padding else thing.number, *self._corners(_relative(thing.box, frame), flipped)]

    def _object(self, name: int, first: int, last: int) -> LayoutObject:
        bits, number = divmod(name, self.num_classes)
        return LayoutObject(
            number, self._box(first, last), frozenset(flag for flag in self.flags if bits & FLAGS[flag])
        )

    def _corners(self, box: Box, flipped: bool) -> list[int]:
        left, top, width, height = box
        if flipped:
            left = 1 - (left + width)
        return [self.point(left, top), self.point(left + width, top + height)]

    def _box(self, first: int, last: int) -> Box:
        (left, top), (right, bottom) = self.place(first), self.place(last)
        return left, top, right - left, bottom - top


def parse_objects(
    objects: Sequence[Mapping[str, Any]], names: Sequence[str], num_classes: int, where: str
) -> list[LayoutObject]:
    """The `LayoutObject`s that a file speaks of.

    Args:
      objects: those of the file.
      names: of the classes, by number; empty where they have none.
      num_classes: numbers are below it.
      where: what the message calls the file.

    Raises:
      UserError: an object is not as the format wants it.
    """
    return [
        _parse(entry, names, num_classes, f"object {i + 1} of the layout of {where}") for i, entry in enumerate(objects)
    ]


def select(
    objects: Iterable[LayoutObject], min_area: float = 1e-4, counts: tuple[int, int] = (2, 30)
) -> list[LayoutObject] | None:
    """Those larger than `min_area`, or None where their number is not in `counts`; as LDM trains on OpenImages."""
    large = [thing for thing in objects if thing.box[2] * thing.box[3] > min_area]
    return large if counts[0] <= len(large) <= counts[1] else None


def _parse(entry: Mapping[str, Any], names: Sequence[str], num_classes: int, what: str) -> LayoutObject:
    if not isinstance(entry, Mapping) or not {"class", "box"} <= set(entry) <= {"class", "box", *FLAGS}:
        raise UserError(f"{what} is {entry!r}; expected class, box and maybe {', '.join(FLAGS)}")
    number, box = entry["class"], entry["box"]
    if isinstance(number, str):
        if number not in names:
            raise UserError(f"{what} is of the class {number!r}; expected {_expected(names)}")
        number = list(names).index(number)
    if type(number) is not int or not 0 <= number < num_classes:
        raise UserError(f"{what} is of the class {number!r}; expected a number from 0 to {num_classes - 1}")
    if not _is_box(box):
        raise UserError(f"{what} has the box {box!r}; expected [left, top, width, height] in parts of the image")
    for flag in FLAGS:
        if not isinstance(entry.get(flag, False), bool):
            raise UserError(f"{what} has {flag} {entry[flag]!r}; expected true or false")
    return LayoutObject(number, tuple(map(float, box)), frozenset(flag for flag in FLAGS if entry.get(flag)))


def _expected(names: Sequence[str]) -> str:
    return (
        f"one of {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "a number: no names are known"
    )


def _is_box(box: Any) -> bool:
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(type(x) in (int, float) for x in box):
        return False
    left, top, width, height = box
    edge = 0.01  # by which boxes may stand out, for they are often rounded to pixels
    return min(left, top) >= -edge and min(width, height) >= 0 and max(left + width, top + height) <= 1 + edge


def _overlap(box: Box, window: Box) -> bool:
    """Whether a part of the box is inside the window."""
    return all(
        min(box[axis] + box[axis + 2], window[axis] + window[axis + 2]) > max(box[axis], window[axis])
        for axis in (0, 1)
    )


def _relative(box: Box, frame: Box) -> Box:
    """A box in parts of a frame, moved inside it and then cut off at its end, as the program has it."""
    left, top = (min(max((box[axis] - frame[axis]) / frame[axis + 2], 0.0), 1.0) for axis in (0, 1))
    return left, top, min(box[2] / frame[2], 1 - left), min(box[3] / frame[3], 1 - top)
