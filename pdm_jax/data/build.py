"""Turns any source into one ArrayRecord file, once its images were seen to decode."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pdm_jax.data.codec import decode, encode_smaller
from pdm_jax.data.pipeline import ahead
from pdm_jax.data.record import BrokenImageError, Record, Source
from pdm_jax.data.sources.array_records import header_of, write_array_record
from pdm_jax.data.transforms import height_and_width
from pdm_jax.errors import UserError

_log = logging.getLogger(__name__)


def build_array_record(
    source: Source,
    path: Path,
    progress: Callable[[Iterable], Iterable] = iter,
    force: bool = False,
    size: int | tuple[int, int] | None = None,
) -> tuple[int, int]:
    """Writes the images of a source to `path`, in order; those that do not decode are skipped and named in the log.

    Args:
      source: what to write.
      path: the ArrayRecord file; it appears only when it is complete.
      progress: wraps the iteration over `len(source)` images, such as a progress bar.
      force: replaces a file that exists.
      size: of squares, or (height, width), that larger images are made to just cover, once and for all, which is most
        of the work of reading them (`codec.encode_smaller`); None keeps all as they are.

    Returns:
      (number of images written, number skipped).

    Raises:
      UserError: the file exists, cannot be written, or no image is usable.
    """
    if size is not None:
        size = height_and_width(size)
        if min(size) < 1:
            raise UserError(f"the size is {size[0]}x{size[1]}; expected at least 1 pixel")
    if path.exists() and not force:
        raise UserError(f"{path} exists; give another name, or --force to replace it")
    skipped = 0

    def usable() -> Iterator[Record]:
        nonlocal skipped
        for record in progress(_decodable(source, size)):
            if isinstance(record, Record):
                yield record
            else:
                skipped += 1
                _log.warning("skipped %s", record)
        if skipped == len(source):
            raise UserError(f"none of the {skipped} images decodes, so that {path} was not written")

    return write_array_record(path, usable(), header_of(source)), skipped


def _decodable(source: Source, size: tuple[int, int] | None) -> Iterable[Record | BrokenImageError]:
    """Each record in order, or why it is broken."""

    def check(index: int) -> Record | BrokenImageError:
        try:
            record = source[index]
            image = decode(record, channels=3)
        except BrokenImageError as error:
            return error
        if size is None or image.height <= size[0] or image.width <= size[1]:
            return record
        return dataclasses.replace(record, image=encode_smaller(image, size[::-1]))

    return ahead(check, len(source))
