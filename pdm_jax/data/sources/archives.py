"""Arrays of images in `.npz` archives, as diffusion programs exchange samples and reference batches."""

from __future__ import annotations

import glob
import os
import zipfile
from pathlib import Path

import numpy as np

from pdm_jax.data.record import BrokenImageError, Record, Source, checksum
from pdm_jax.errors import UserError

_IMAGES, _LABELS = "arr_0", "arr_1"


class NpzSource(Source):
    """The images `arr_0`, uint8 (N, H, W, C), of all archives that match a pattern, in the order of their names.

    `arr_1`, integers (N,), are labels where every archive has them. Images that lie uncompressed, as `numpy.savez`
    leaves them, are read from the disk as they are asked for.
    """

    def __init__(self, pattern: str):
        paths = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
        if not paths:
            raise UserError(f"no file matches {pattern!r}; expected .npz archives with images as {_IMAGES}")
        self._paths, checks, labels = paths, [], []
        self._arrays: dict[str, np.ndarray] = {}
        for path in paths:
            with _archive(path) as archive:
                checks += [f"{os.path.basename(path)} {member.CRC}" for member in archive.infolist()]
            labels.append(_labels(path, len(self._open(path))))
        self._ends = np.cumsum([len(self._open(path)) for path in paths])
        self._labels = np.concatenate(labels) if all(item is not None for item in labels) else None
        if self._labels is not None:
            self.class_names = tuple(map(str, range(self._labels.max(initial=-1) + 1)))
        self.fingerprint = checksum(checks)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_arrays": {}}  # a mapped file would travel as its whole content

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Record:
        file = int(np.searchsorted(self._ends, index, side="right"))
        path = self._paths[file]
        place = index - (int(self._ends[file - 1]) if file else 0)
        try:
            image = np.array(self._open(path)[place])
        except OSError as error:
            raise BrokenImageError(f"{path}[{place}]: {error.strerror}") from error
        label = None if self._labels is None else int(self._labels[index])
        return Record(image[..., 0] if image.shape[-1] == 1 else image, index, f"{Path(path).stem}[{place}]", label)

    def _open(self, path: str) -> np.ndarray:
        if path not in self._arrays:
            self._arrays[path] = _images(path)
        return self._arrays[path]


def _archive(path: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no .npz archive, or is cut short ({error}); copy or make it again") from error


def _images(path: str) -> np.ndarray:
    """The images of an archive, mapped where they are not compressed."""
    with _archive(path) as archive:
        try:
            member = archive.getinfo(f"{_IMAGES}.npy")
        except KeyError:
            raise UserError(
                f"{path} holds {', '.join(archive.namelist())} and no images; expected {_IMAGES}, uint8 (N, H, W, C)"
            ) from None
    try:
        images = _mapped(path, member) if member.compress_type == zipfile.ZIP_STORED else np.load(path)[_IMAGES]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"the images of {path} cannot be read ({error}); copy or make it again") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise UserError(
            f"{path} holds {images.dtype} {images.shape} as {_IMAGES}; expected uint8 images (N, H, W, C) "
            "with C 3 (RGB) or 1 (grey)"
        )
    return images


def _mapped(path: str, member: zipfile.ZipInfo) -> np.ndarray:
    """Maps an uncompressed member of a zip file."""
    with open(path, "rb") as file:
        file.seek(member.header_offset + 26)  # a local header of 30 bytes ends in the lengths of two texts behind it
        lengths = np.frombuffer(file.read(4), "<u2")
        file.seek(member.header_offset + 30 + int(lengths.sum()))
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = read_header[version](file)
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran_order else "C")


def _labels(path: str, count: int) -> np.ndarray | None:
    with np.load(path) as arrays:
        labels = arrays.get(_LABELS)
    if labels is None or labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
        return None
    return labels.astype(np.int32)
