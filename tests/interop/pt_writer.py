"""Writes `.pt` files without torch, sound or damaged, from the pickle's opcodes."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def tensor(key: str, size: int, offset: int, shape: Sequence[int], strides: Sequence[int]) -> str:
    """The opcodes of a float32 tensor over storage `key` of `size` numbers."""
    storage = f"(Vstorage\nctorch\nFloatStorage\nV{key}\nVcpu\nI{size}\ntQ"
    return f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I{offset}\n{_integers(shape)}{_integers(strides)}I00\nNtR"


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> Path:
    """A file like that of `torch.save` of a dict of float32 tensors."""
    opcodes, data = {}, {}
    for i, (name, array) in enumerate(tensors.items()):
        strides = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
        opcodes[name] = tensor(str(i), array.size, 0, array.shape, strides)
        data[str(i)] = np.asarray(array, "<f4").tobytes()
    return write_archive(path, saved(opcodes), data)


def saved(opcodes: Mapping[str, str]) -> bytes:
    """A pickled dict of values given as opcodes."""
    return ("(" + "".join(f"V{name}\n{code}" for name, code in opcodes.items()) + "d.").encode()


def write_archive(path: Path, pickled: bytes, data: Mapping[str, bytes]) -> Path:
    """The zip archive of a pickle and its storages."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for key, storage in data.items():
            file.writestr(f"archive/data/{key}", storage)
    return path


def _integers(numbers: Sequence[int]) -> str:
    return "(" + "".join(f"I{n}\n" for n in numbers) + "t"
