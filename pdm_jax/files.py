"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file under a temporary name and renames it when it is complete; one that is there is replaced.

    Args:
      path: in a folder that exists.
      write: is given the open file.

    Raises:
      OSError: it cannot be written; then nothing is left of it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            write(file)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # renamed, or never made
            temporary.unlink()
