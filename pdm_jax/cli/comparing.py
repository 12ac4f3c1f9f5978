"""Single pictures as files, exact to the byte, and before beside after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pdm_jax.cli.output import check_output
from pdm_jax.errors import UserError
from pdm_jax.files import write_whole

_GAP = 4  # white pixels between before and after


def check_picture(flag: str, path: str | None) -> None:
    """Raises a `UserError` where a picture could not be written to the path of a flag; None is not written."""
    if path is None:
        return
    if Path(path).suffix != ".png":
        raise UserError(f"{flag} is {path}; expected a .png, which keeps every pixel")
    check_output(Path(path))


def check_pictures(out: str, compare: str | None) -> None:
    """Raises a `UserError` where a result and its comparison could not both be written."""
    check_picture("--out", out)
    check_picture("--compare", compare)
    check_apart(out, compare)


def check_apart(out: str, compare: str | None) -> None:
    """Raises a `UserError` where the comparison would replace the result."""
    if compare is not None and Path(out).resolve() == Path(compare).resolve():
        raise UserError(f"--out and --compare are both {out}; give two names")


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Writes pixels (H, W, C) uint8 as a PNG, as they are; raises `UserError` where that is not possible."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    try:
        write_whole(path, lambda file: image.save(file, "PNG"))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another name") from error


def beside(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Two images (..., H, W, C) uint8 of one size side by side."""
    gap = np.full((*before.shape[:-2], _GAP, before.shape[-1]), 255, np.uint8)
    return np.concatenate([before, gap, after], axis=-2)
