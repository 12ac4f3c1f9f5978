"""What a source of images is: a random-access sequence of records."""

from __future__ import annotations

import abc
import dataclasses
import zlib
from collections.abc import Iterable

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One image as it lies in its source."""

    image: bytes | np.ndarray  # an encoded file, or uint8 pixels (H, W) or (H, W, 3)
    index: int  # its position in the source, stable from run to run
    name: str  # what the logs call it
    label: int | None = None  # class in [0, num_classes); None where the source has no classes


class BrokenImageError(Exception):
    """An image cannot be decoded; the message names it and says why. It is skipped, not fatal."""


class Source(abc.ABC):
    """Images by position. Sources travel to worker processes by pickling, so they hold no open files then.

    `class_names` are the classes in the order of their labels, empty where there are none. `fingerprint` tells
    one content and order of records from another and does not change when a data set is copied or moved. A
    `cacheable` source is small enough to keep every image decoded.
    """

    class_names: tuple[str, ...] = ()
    cacheable: bool = False
    fingerprint: str

    @property
    def revision(self) -> str:
        """The fingerprint and whatever else shows a changed content without reading it; may change by copying."""
        return self.fingerprint

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def __getitem__(self, index: int) -> Record:
        """The record at `index` in [0, len).

        Raises:
          BrokenImageError: its bytes are damaged.
          UserError: they cannot be read at all.
        """


def checksum(names: Iterable[str]) -> str:
    """A short checksum of names in order."""
    return f"{zlib.crc32(chr(10).join(names).encode('utf-8', 'surrogateescape')):08x}"
