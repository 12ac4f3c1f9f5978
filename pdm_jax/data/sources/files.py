"""Image files in a folder or in a zip archive: sub-folders are classes, none is unconditional."""

from __future__ import annotations

import abc
import os
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from pdm_jax.data.record import BrokenImageError, Record, Source, checksum
from pdm_jax.data.sources.sidecars import Sidecars, files_below
from pdm_jax.errors import UserError

_SUFFIXES = (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class _FileSource(Source):
    """Files by name, with what lies beside them; `_read` gives the bytes of one."""

    def _find(self, paths: Iterable[str], source: Path, where: str, fields: Sequence[str]) -> None:
        """Sorts out which of the files are images, and what belongs to them."""
        paths = list(paths)
        self._names, self._labels, self.class_names = _sort_into_classes(paths, where)
        self._sidecars = Sidecars(paths, self._read, source, where, fields)
        self.fields, self.object_names = tuple(fields), self._sidecars.object_names
        self.fingerprint = checksum(self._names)

    @abc.abstractmethod
    def _read(self, name: str) -> bytes: ...

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Record:
        name = self._names[index]
        label = self._labels[index] if self._labels else None
        return Record(self._read(name), index, name, label, **self._sidecars.of(name))

    def lacking(self, field: str) -> list[str]:
        return self._sidecars.lacking(field, self._names)


class FolderSource(_FileSource):
    """All image files below a folder, sorted by path; the first sub-folder on the way to a file is its class.

    `fields` are those of `pdm_jax.data.record.FIELDS` that are read from the files beside images
    (`pdm_jax.data.sources.sidecars`).
    """

    def __init__(self, path: str, fields: Sequence[str] = ()):
        self._root = Path(path).expanduser()
        if not self._root.is_dir():
            raise UserError(f"the folder {path!r} does not exist; give the folder that holds the images")
        self._find(files_below(self._root), self._root, f"the folder {path!r}", fields)

    @property
    def revision(self) -> str:
        files = ((name, (self._root / name).stat()) for name in self._names)
        return checksum(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files)

    def _read(self, name: str) -> bytes:
        try:
            return (self._root / name).read_bytes()
        except OSError as error:
            raise UserError(f"{self._root / name} cannot be read ({error.strerror}); restore or remove it") from error


class ZipSource(_FileSource):
    """The same inside a zip archive. Each process opens the archive for itself, when it first reads."""

    def __init__(self, path: str, fields: Sequence[str] = ()):
        self._path = Path(path).expanduser()
        self._handles: dict[int, zipfile.ZipFile] = {}  # by process: a handle shared across a fork would seek wildly
        if not self._path.is_file():
            raise UserError(f"the zip archive {path!r} does not exist; give the file that holds the images")
        if not zipfile.is_zipfile(self._path):
            raise UserError(
                f"{path!r} is not a zip archive; zip the folder of images, or give the folder as folder:PATH"
            )
        self._find(self._archive().namelist(), self._path, f"the zip archive {path!r}", fields)

    @property
    def revision(self) -> str:
        return checksum(f"{name} {self._archive().getinfo(name).CRC}" for name in self._names)

    def _archive(self) -> zipfile.ZipFile:
        process = os.getpid()
        if process not in self._handles:
            self._handles[process] = zipfile.ZipFile(self._path)
        return self._handles[process]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_handles": {}}

    def _read(self, name: str) -> bytes:
        try:
            return self._archive().read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            # A wrong checksum, a cut or foreign compression, a password.
            raise BrokenImageError(f"{name}: {error}") from error


def _sort_into_classes(paths: Iterable[str], where: str) -> tuple[list[str], list[int], tuple[str, ...]]:
    """Picks the image files and gives (names, labels, class names); no labels where no image has a sub-folder.

    Hidden files and folders and macOS's `__MACOSX` are left out. A lone top folder that holds nothing but
    sub-folders is only a wrapper (as `zip -r all.zip all` makes), so that the classes are one level further down.
    """
    names = sorted(path for path in paths if _is_image(PurePosixPath(path)))
    if not names:
        raise UserError(f"{where} holds no images; expected files that end in {' '.join(_SUFFIXES)}")
    parents = [PurePosixPath(name).parts[:-1] for name in names]
    if len({parent[:1] for parent in parents}) == 1 and min(map(len, parents)) >= 2:
        parents = [parent[1:] for parent in parents]
    if not any(parents):
        return names, [], ()
    if not all(parents):
        stray = names[parents.index(())]
        raise UserError(
            f"{where} holds images both in sub-folders (classes) and beside them, such as {stray}; "
            "move each into a sub-folder, or all into one folder"
        )
    class_names = tuple(sorted({parent[0] for parent in parents}))
    label_of = {name: label for label, name in enumerate(class_names)}
    return names, [label_of[parent[0]] for parent in parents], class_names


def _is_image(path: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in _SUFFIXES and not hidden
