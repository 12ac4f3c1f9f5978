"""Captions, layouts and class maps in files beside images.

For an image `cat/a.jpg`, below the folder or in the archive of a source:

* captions: `cat/a.txt`, one a line; or `captions.jsonl`, with lines `{"file": "cat/a.jpg", "caption": "a cat"}`, where
  `caption` may also be a list. It lies in any folder on the way, and names files as seen from there.
* layout: `cat/a.json`, `{"objects": [...]}` as `pdm_jax.data.layouts` says; or `layouts.jsonl`, with lines of the same
  and `file`. Names of classes, where layouts give names, are in `classes.txt` at the top, one a line in the order of
  their numbers.
* map: `maps/cat/a.png` in a folder `maps` beside the folder or the archive, whose pixels are class numbers: 8-bit grey,
  or a palette's entries.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pdm_jax.errors import UserError

_LISTS = {"captions": ("captions.jsonl", "caption"), "layout": ("layouts.jsonl", "objects")}
_EXPECTED = {"caption": '"a cat"', "objects": "[...]"}
_NAMES = "classes.txt"
_SUFFIXES = {"captions": ".txt", "layout": ".json"}


class Sidecars:
    """Finds what lies beside images, and reads the wanted part of it."""

    def __init__(
        self, paths: Iterable[str], read: Callable[[str], bytes], source: Path, where: str, fields: Sequence[str]
    ):
        """Reads the lists, but no file that belongs to a single image.

        Args:
          paths: of all files of the source, below it.
          read: gives the bytes of one.
          source: the folder or the archive.
          where: what messages call it.
          fields: which of `pdm_jax.data.record.FIELDS` are wanted.

        Raises:
          UserError: a list is damaged.
        """
        paths = list(paths)
        self._read, self._where, self._fields = read, where, fields
        self._files = frozenset(path for path in paths if path.endswith(tuple(_SUFFIXES.values())))
        self._maps = source.absolute().parent / "maps"
        self._map_files = frozenset(files_below(self._maps)) if "map" in fields else frozenset()
        self.object_names = self._lines(_NAMES) if "layout" in fields and _NAMES in self._files else ()
        self._lists = {field: self._read_lists(paths, *_LISTS[field]) for field in fields if field in _LISTS}

    def of(self, image: str) -> dict[str, Any]:
        """The wanted fields of an image's record, those that it has.

        Raises:
          UserError: a file cannot be read, or is not what it should be.
        """
        found = {field: getattr(self, f"_{field}")(image) for field in self._fields}
        return {field: value for field, value in found.items() if value is not None}

    def lacking(self, field: str, images: Iterable[str]) -> list[str]:
        """Those of the images that have no `field`. A JSON file without objects is something else than a layout."""
        if field not in self._fields:
            return list(images)
        if field == "layout":
            return [image for image in images if self._layout(image) is None]
        if field == "map":
            return [image for image in images if _map_name(image) not in self._map_files]
        return [
            image for image in images if image not in self._lists[field] and _beside(image, field) not in self._files
        ]

    def _captions(self, image: str) -> tuple[str, ...] | None:
        if image in self._lists["captions"]:
            captions = json.loads(self._lists["captions"][image])["caption"]
            return (captions,) if isinstance(captions, str) else tuple(captions)
        if (path := _beside(image, "captions")) not in self._files:
            return None
        return self._lines(path) or ("",)

    def _layout(self, image: str) -> tuple[dict[str, Any], ...] | None:
        if image in self._lists["layout"]:
            return tuple(json.loads(self._lists["layout"][image])["objects"])
        if (path := _beside(image, "layout")) not in self._files:
            return None
        try:
            layout = json.loads(self._read(path))
        except ValueError as error:
            raise UserError(f"{path} in {self._where} is no JSON ({error}); repair or remove it") from error
        if not isinstance(layout, dict) or "objects" not in layout:
            return None
        if not isinstance(layout["objects"], list):
            raise UserError(f'{path} in {self._where} is no layout; expected {{"objects": [...]}}')
        return tuple(layout["objects"])

    def _map(self, image: str) -> bytes | None:
        if _map_name(image) not in self._map_files:
            return None
        path = self._maps / _map_name(image)
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); restore or remove it") from error

    def _lines(self, path: str) -> tuple[str, ...]:
        """The lines of a text that say something."""
        try:
            lines = self._read(path).decode().splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{path} in {self._where} is no UTF-8 text; save it as such") from error
        return tuple(line.strip() for line in lines if line.strip())

    def _read_lists(self, paths: Iterable[str], file: str, key: str) -> dict[str, bytes]:
        """The lines of all lists of a name, by the image they are of."""
        lines = {}
        for path in map(PurePosixPath, paths):
            if path.name != file:
                continue
            for number, line in enumerate(self._read(str(path)).splitlines(), 1):
                if line.strip():
                    lines[str(path.parent / _file_of(line, key, f"line {number} of {path} in {self._where}"))] = line
        return lines


def _file_of(line: bytes, key: str, name: str) -> str:
    """The file that a line of a list is about."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        entry = json.loads(line)
        if isinstance(entry["file"], str) and _fits(entry[key], key):
            return entry["file"]
    raise UserError(f'{name} is not as expected: {{"file": "a.jpg", "{key}": {_EXPECTED[key]}}}')


def _fits(told: Any, key: str) -> bool:
    """Whether a line tells a caption, captions, or objects."""
    if key == "objects":
        return isinstance(told, list)
    texts = told if isinstance(told, list) else [told]
    return bool(texts) and all(isinstance(text, str) for text in texts)


def _beside(image: str, field: str) -> str:
    return str(PurePosixPath(image).with_suffix(_SUFFIXES[field]))


def _map_name(image: str) -> str:
    return str(PurePosixPath(image).with_suffix(".png"))


def files_below(folder: Path) -> Iterator[str]:
    """The paths of all files below a folder, as seen from it; none where there is no such folder."""
    for inner, _, files in os.walk(folder, followlinks=True):
        for file in files:
            yield (Path(inner) / file).relative_to(folder).as_posix()
