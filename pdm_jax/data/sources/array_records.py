"""ArrayRecord files of encoded images: the fastest source at scale, one file that is read at random.

The format: each record is one line of JSON, a newline, and a body. Record 0 is the header,
`{"format": "pdm_jax.images.1", "class_names": [...]}` with an empty body. Every further record is one image,
`{"name": "cat/1.jpg", "index": 7, "label": 0}` (its name, position and class in the source it was built from;
`label` is null without classes) with the bytes of the image file as they were. Where the source has them, the line has
`captions` and `layout`, too, and `map` is the number of bytes at the end of the body that are the class map, a PNG; the
header's `fields` says which of them each record has, and its `object_names` what layouts' classes are called.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pdm_jax.data.codec import encode_png
from pdm_jax.data.record import Record, Source, checksum
from pdm_jax.errors import UserError


class ArrayRecordSource(Source):
    """The images of all files that match a pattern, file after file in the order of their names."""

    FORMAT = "pdm_jax.images.1"
    MADE_BY = "pdm data build SRC"

    def __init__(self, pattern: str):
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        paths = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
        if not paths:
            raise UserError(f"no file matches {pattern!r}; `{self.MADE_BY} {pattern}` makes an ArrayRecord file")
        counts, headers = zip(*(self._read_header(path) for path in paths), strict=True)
        self.header = headers[0]
        for path, header in zip(paths, headers, strict=True):
            if other := [name for name in header if name != "fields" and header[name] != self.header.get(name)]:
                what = other[0].replace("_", " ")
                raise UserError(f"{path} has other {what} than {paths[0]}; give files that were built alike")
        self.class_names = tuple(self.header["class_names"])
        self.object_names = tuple(self.header.get("object_names", ()))
        self.fields = tuple(
            sorted(frozenset.intersection(*(frozenset(header.get("fields", ())) for header in headers)))
        )
        self.fingerprint = checksum([*self.class_names, *map(os.path.basename, paths), *map(str, counts)])
        self._paths = paths
        # `path[a:b]` is the reader's way to name a part of a file: all but the header.
        self._records = ArrayRecordDataSource(
            [f"{path}[1:{1 + count}]" for path, count in zip(paths, counts, strict=True)]
        )

    @property
    def revision(self) -> str:
        stats = map(os.stat, self._paths)
        return checksum([self.fingerprint, *(f"{stat.st_size} {stat.st_mtime_ns}" for stat in stats)])

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        facts, body = _unpack(self._records[index])
        end = len(body) - facts.get("map", 0)
        extras = {field: tuple(facts[field]) for field in ("captions", "layout") if field in facts}
        return Record(body[:end], index, facts["name"], facts["label"], **extras, map=body[end:] or None)

    def lacking(self, field: str) -> list[str]:
        return [] if field in self.fields else super().lacking(field)

    def _read_header(self, path: str) -> tuple[int, dict[str, Any]]:
        """(number of records, header) of a file."""
        from array_record.python.array_record_module import ArrayRecordReader

        try:
            reader = ArrayRecordReader(path)
            count = reader.num_records() - 1
            header, _ = _unpack(reader.read([0])[0])
            reader.close()
        except (RuntimeError, ValueError, IndexError) as error:
            raise UserError(
                f"{path} is not an ArrayRecord file of images; make one with `{self.MADE_BY} {path}`"
            ) from error
        if header.get("format") != self.FORMAT:
            raise UserError(f"{path} has the format {header.get('format')}, expected {self.FORMAT}; build it again")
        return count, header


def header_of(source: Source) -> dict[str, Any]:
    """The header of a file that all records of a source are written to."""
    fields = [field for field in source.fields if not source.lacking(field)]
    names = {"object_names": list(source.object_names)} if source.object_names else {}
    return {"format": ArrayRecordSource.FORMAT, "class_names": list(source.class_names), "fields": fields} | names


def write_array_record(path: Path, records: Iterable[Record], header: Mapping[str, Any]) -> int:
    """Writes records to a new file; it appears under its name only when it is complete.

    Args:
      path: the file; one that exists is replaced. Its folder is made.
      records: the images; encoded ones are kept byte by byte, pixels become PNGs.
      header: as plain JSON: the format, the class names and what else the format has; `header_of` makes it.

    Returns:
      How many records were written.

    Raises:
      UserError: the place cannot be written to, or is full.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Groups of one record are what random access wants; images are compressed already.
        writer = ArrayRecordWriter(str(part), "group_size:1,uncompressed")
        writer.write(_pack(header, b""))
        for record in records:
            writer.write(_packed(record))
            count += 1
        writer.close()
        part.replace(path)
    except (OSError, RuntimeError) as error:  # the writer's own errors are RuntimeErrors
        raise UserError(f"{path} cannot be written ({error}); give a place with room that you may write to") from error
    finally:
        with contextlib.suppress(OSError):  # gone under its new name, or never made
            part.unlink()
    return count


def _packed(record: Record) -> bytes:
    """A record as it is written."""
    facts: dict[str, Any] = {"name": record.name, "index": record.index, "label": record.label}
    facts |= {"captions": list(record.captions)} if record.captions is not None else {}
    facts |= {"layout": list(record.layout)} if record.layout is not None else {}
    body = _encoded(record.image)
    if record.map is not None:
        classes = _encoded(record.map)
        facts["map"] = len(classes)
        body += classes
    return _pack(facts, body)


def _encoded(image: bytes | np.ndarray) -> bytes:
    return image if isinstance(image, bytes) else encode_png(image)


def _pack(facts: Mapping, body: bytes) -> bytes:
    return json.dumps(dict(facts)).encode() + b"\n" + body


def _unpack(record: bytes) -> tuple[dict, bytes]:
    facts, _, body = record.partition(b"\n")
    return json.loads(facts), body
