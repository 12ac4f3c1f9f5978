"""Keras's h5 weight files, in their order."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pdm_jax.errors import UserError


def read(path: str | os.PathLike) -> list[tuple[str, np.ndarray]]:
    """Names `<layer group>/<weight name>` and arrays in the order of `layer_names` and each `weight_names`.

    Reads what `save_weights` of Keras 2 writes, and the weights inside of a whole saved model.

    Raises:
      UserError: the file does not exist, is damaged or is no Keras file.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; give the path of a Keras h5 file")
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            layers = _names(root, "layer_names")
            return [
                (f"{layer}/{weight}", root[layer][weight][()])
                for layer in layers
                for weight in _names(root[layer], "weight_names")
            ]
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip("\"'")
        raise UserError(f"{path} is not a sound Keras weight file ({reason}); copy or download it again") from None


def _names(group, attribute: str) -> list[str]:
    """A list of names; Keras cuts one that is too long for an attribute into `<attribute>0`, `<attribute>1`, ..."""
    if attribute in group.attrs:
        chunks = [group.attrs[attribute]]
    else:
        chunks, i = [], 0
        while f"{attribute}{i}" in group.attrs:
            chunks.append(group.attrs[f"{attribute}{i}"])
            i += 1
        if not chunks:
            raise KeyError(f"{group.name} has no attribute {attribute}")
    return [name.decode() if isinstance(name, bytes) else str(name) for chunk in chunks for name in chunk]
