"""Weight files of other programs, as named tensors in our layout of axes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.interop import safetensors_files, torch_files
from pdm_jax.interop.matching import Shape, match_names

Tensors = Mapping[str, np.ndarray]


def read_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The named tensors of a `.safetensors` file, or of a PyTorch file of any other name (nothing in it is run).

    Raises:
      UserError: the file does not exist, is damaged or holds no named tensors.
    """
    if Path(path).suffix == ".safetensors":
        return safetensors_files.read(path)[0]
    saved = torch_files.read(path)
    try:
        return torch_files.state_dict(saved)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def select(tensors: Tensors, wanted: Mapping[str, Shape], surplus: str) -> dict[str, np.ndarray]:
    """Exactly the wanted tensors, in float32.

    Args:
      tensors: what the file has.
      wanted: names and shapes, in PyTorch's layout.
      surplus: regular expression of names that the file may have besides.

    Raises:
      UserError: lists what is missing, misshapen or neither wanted nor allowed.
    """
    kept = {name: tensor for name, tensor in tensors.items() if name in wanted or not re.fullmatch(surplus, name)}
    match_names(kept, wanted, "Give the file that the program itself uses")
    return {name: np.asarray(tensor, np.float32) for name, tensor in kept.items()}


def conv_kernel(weight: np.ndarray) -> np.ndarray:
    """OIHW to HWIO."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))


def conv_shape(kernel: Shape) -> Shape:
    """The shape in PyTorch's layout of a kernel of this shape (HWIO)."""
    return kernel[3], kernel[2], kernel[0], kernel[1]
