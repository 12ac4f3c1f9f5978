"""What a source of images is: a random-access sequence of records."""

from __future__ import annotations

import abc
import dataclasses
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pdm_jax.errors import UserError

FIELDS = ("captions", "layout", "map")  # what a record may hold beside its image and label
_SIDECARS = {  # what is lacking, and where it belongs
    "captions": "caption (a.txt beside a.jpg, or a line of captions.jsonl)",
    "layout": "layout (a.json beside a.jpg, or a line of layouts.jsonl)",
    "map": "class map (maps/a.png in a folder beside that of a.jpg)",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One image as it lies in its source."""

    image: bytes | np.ndarray  # an encoded file, or uint8 pixels (H, W) or (H, W, 3)
    index: int  # its position in the source, stable from run to run
    name: str  # what the logs call it
    label: int | None = None  # class in [0, num_classes); None where the source has no classes
    captions: Sequence[str] | None = None  # at least one text that says what it shows, the best first
    layout: Sequence[Mapping[str, Any]] | None = None  # objects as in `pdm_jax.data.layouts`, in parts of the image
    map: bytes | np.ndarray | None = None  # the class of each pixel: a PNG, or uint8 (h, w); of the image's aspect


class BrokenImageError(Exception):
    """An image cannot be decoded; the message names it and says why. It is skipped, not fatal."""


class Source(abc.ABC):
    """Images by position. Sources travel to worker processes by pickling, so they hold no open files then.

    `class_names` are the classes in the order of their labels, empty where there are none; `object_names` are those of
    layouts' objects. `fields` are those of `FIELDS` that its records may hold. `fingerprint` tells one content and
    order of records from another and does not change when a data set is copied or moved. A `cacheable` source is small
    enough to keep every image decoded.
    """

    class_names: tuple[str, ...] = ()
    fields: Sequence[str] = ()
    object_names: Sequence[str] = ()
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

    def lacking(self, field: str) -> list[str]:
        """The names of the records that have no `field`."""
        records = (self[index] for index in range(len(self)))
        return [record.name for record in records if getattr(record, field) is None]


def require(source: Source, fields: Iterable[str], name: str) -> None:
    """Raises a `UserError` unless every record has the fields; it tells how many have not, and the first of them."""
    for field in fields:
        if lacking := source.lacking(field):
            first = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            raise UserError(f"{len(lacking)} of {len(source)} images in {name} have no {_SIDECARS[field]}: {first}")


def checksum(names: Iterable[str]) -> str:
    """A short checksum of names in order."""
    return f"{zlib.crc32(chr(10).join(names).encode('utf-8', 'surrogateescape')):08x}"
