"""Safetensors files: whole, or a user's error."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pdm_jax.errors import UserError


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors by name, and the metadata. The format keeps no order of tensors.

    Raises:
      UserError: the file does not exist or is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give the path of a safetensors file") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a sound safetensors file ({error}); copy or download it again") from None


def write(path: str | os.PathLike, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes tensors and metadata; the file appears complete or not at all, in place of one that is there.

    Raises:
      UserError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    try:
        save_file(contiguous, partial, dict(metadata))
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {path} ({reason}); choose another place or free some space") from None
    finally:
        with contextlib.suppress(OSError):  # what failed above is what counts
            partial.unlink(missing_ok=True)
