"""Files of PDM's two official programs, in whichever container they come, as our parameters."""

from __future__ import annotations

from pathlib import Path

from pdm_jax.errors import UserError
from pdm_jax.interop import keras_files, pdm, reference_files, safetensors_files, torch_files
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Params

_HDF5, _ZIP, _PICKLE = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x80"  # how their files begin


def read_tf(path: Path, definition: Definition) -> Params:
    """Parameters from the TensorFlow program's h5 file, or from reference safetensors with their order.

    Raises:
      UserError: the file cannot be read, or does not hold this network.
    """
    reader = keras_files if _beginning(path).startswith(_HDF5) else reference_files
    return pdm.load(reader.read(path), definition)


def read_torch(path: Path, definition: Definition) -> Params:
    """Parameters from the PyTorch program's `.pt` file, or from safetensors with its names.

    Raises:
      UserError: the file cannot be read, or does not hold this network.
    """
    if _beginning(path).startswith((_ZIP, _PICKLE)):
        return pdm.load_torch(torch_files.state_dict(torch_files.read(path)), definition)
    tensors, _ = safetensors_files.read(path)
    return pdm.load_torch(tensors, definition)


def _beginning(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give the path of a weight file") from None
