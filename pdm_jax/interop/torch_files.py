"""Tensors out of PyTorch's `.pt` and `.ckpt` files, without torch and without running anything from the file.

Such a file is a pickle, which could name any function to call. The reader here knows only the few names that
rebuild tensors. Checkpoints of Lightning also hold callbacks, settings and numbers of numpy: in the place of these
stand objects that do nothing. Any other name is refused. Both layouts are read: the zip archive of torch 1.6 and later
(a `data.pkl` and one entry a storage) and the stream of pickles before it.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from pdm_jax.errors import UserError

_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# Beside tensors in a checkpoint of Lightning; all of a package, or one name of a module.
_BYSTANDING_PACKAGES = ("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf")
_BYSTANDING_NAMES = {
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("argparse", "Namespace"),
    ("typing", "Any"),
    ("collections", "defaultdict"),
    ("__builtin__", "dict"),
    ("builtins", "dict"),
}


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A tensor whose data are yet to be read: a strided view of a storage."""

    key: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements


class _Bystander:
    """Stands for an object that is no tensor: takes whatever a pickle does to it, and does nothing."""

    def __new__(cls, *_: Any) -> _Bystander:
        return super().__new__(cls)

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, *_: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        """As of a list."""

    def extend(self, _: Any) -> None:
        """As of a list."""


def read(path: str | os.PathLike) -> Any:
    """What was saved (dicts, lists, numbers, texts) with tensors as numpy arrays.

    Raises:
      UserError: the file does not exist, is damaged, or holds anything but tensors and plain values; names it.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; give the path of a PyTorch file")
    try:
        saved, storage = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
        return _fill(saved, storage)
    except UserError as error:
        raise UserError(f"{path} {error}") from None
    except Exception as error:  # a damaged pickle fails in any way
        raise UserError(f"{path} is not a sound PyTorch file ({error}); copy or download it again") from None


def state_dict(saved: Any) -> dict[str, np.ndarray]:
    """The named tensors of what was saved, taken out of usual wrappers; averaged weights come first.

    Raises:
      UserError: there are none.
    """
    while isinstance(saved, dict):
        if saved and all(isinstance(value, np.ndarray) for value in saved.values()):
            return dict(saved)
        wrapper = next((key for key in _WRAPPERS if isinstance(saved.get(key), dict)), None)
        if wrapper is None:
            break
        saved = saved[wrapper]
    raise UserError(
        f"the PyTorch file holds no dict of tensors, alone or under one of {', '.join(_WRAPPERS)}; "
        "save the model's state_dict() alone"
    )


_WRAPPERS = ("ema", "ema_state_dict", "model_ema", "state_dict", "model_state_dict", "model")


class _Unpickler(pickle.Unpickler):
    """Builds plain values, ordered dicts, `_Tensor`s and bystanders; refuses every other name."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file)
        self.sizes: dict[str, int] = {}  # bytes of a number, by storage

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module.partition(".")[0] in _BYSTANDING_PACKAGES or (module, name) in _BYSTANDING_NAMES:
            return _Bystander
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
        }
        if (module, name) not in known:
            raise UserError(
                f"holds {module}.{name}, which is no tensor and is not loaded; save the model's state_dict() alone"
            )
        return known[module, name]

    def persistent_load(self, saved_id: tuple) -> tuple[str, np.dtype]:
        kind, dtype, key = saved_id[:3]
        if kind != "storage" or (len(saved_id) > 5 and saved_id[5] is not None):
            raise UserError("refers to something other than plain tensors; save the model's state_dict() alone")
        self.sizes[str(key)] = dtype.itemsize
        return str(key), dtype

    def _tensor(self, storage, offset, shape, strides, *_) -> _Tensor:
        return _Tensor(*storage, offset, tuple(shape), tuple(strides))

    def _parameter(self, tensor: _Tensor, *_) -> _Tensor:
        return tensor


def _read_zip(path: Path) -> tuple[Any, Callable[[_Tensor], np.ndarray]]:
    """What was saved, and a function to a tensor's whole storage."""
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        if "data.pkl" not in names:
            raise UserError("is a zip archive without a data.pkl, no PyTorch file; check the path")
        if "byteorder" in names and archive.read(names["byteorder"]) != b"little":
            raise UserError("was written on a big-endian machine; save it again on another")
        saved = _Unpickler(io.BytesIO(archive.read(names["data.pkl"]))).load()

    def storage(tensor: _Tensor) -> np.ndarray:
        with zipfile.ZipFile(path) as archive:
            return np.frombuffer(archive.read(names[f"data/{tensor.key}"]), tensor.dtype)

    return saved, storage


def _read_legacy(path: Path) -> tuple[Any, Callable[[_Tensor], np.ndarray]]:
    """The same from pickles in a row: magic number, version, machine, what was saved, keys; then the storages."""
    with open(path, "rb") as file:
        if _Unpickler(file).load() != _LEGACY_MAGIC:
            raise UserError("is no PyTorch file; check the path")
        (_, machine), whole = (_Unpickler(file).load() for _ in range(2)), _Unpickler(file)
        if not machine["little_endian"]:
            raise UserError("was written on a big-endian machine; save it again on another")
        saved, keys = whole.load(), _Unpickler(file).load()
        data = {}
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            data[key] = file.read(count * whole.sizes[key])
    return saved, lambda tensor: np.frombuffer(data[tensor.key], tensor.dtype)


def _fill(saved: Any, storage: Callable[[_Tensor], np.ndarray]) -> Any:
    """The same value with arrays for tensors."""
    if isinstance(saved, dict):
        return {key: _fill(value, storage) for key, value in saved.items()}
    if isinstance(saved, (list, tuple)):
        return type(saved)(_fill(item, storage) for item in saved)
    return _view(saved, storage(saved)) if isinstance(saved, _Tensor) else saved


def _view(tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    """A copy of the view; refuses one that reaches past its storage, or repeats it into more than it holds."""
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    inside = min(tensor.offset, *tensor.shape, *tensor.strides, 0) == 0 and last < storage.size
    if math.prod(tensor.shape) > (storage.size if inside else 0):
        raise UserError("has a tensor that reaches past its data: the file is cut short or damaged; copy it again")
    strides = [stride * tensor.dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides).copy()
