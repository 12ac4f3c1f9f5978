"""Sampled images as files: a grid, a folder or ADM's archive; written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pdm_jax.errors import UserError
from pdm_jax.files import write_whole
from pdm_jax.ops.images import grid


def check_output(path: Path) -> None:
    """Raises a `UserError` where images could not be written, before any time is spent on making them."""
    if path.suffix not in (".png", ".npz", ""):
        raise UserError(f"--out is {path}; expected a .png (grid), a .npz (ADM's layout) or a folder")
    if path.suffix == "" and path.is_dir() and any(path.iterdir()):
        raise UserError(f"the folder {path} is not empty; choose a new one")
    if path.suffix and path.is_dir():
        raise UserError(f"--out is {path}, which is a folder; choose another name")
    parent = path if path.suffix == "" else path.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {parent}: {error.strerror}; choose another --out") from error


def write_images(path: Path, images: np.ndarray, labels: np.ndarray | None) -> None:
    """Writes images (N, H, W, C) uint8 as the name of `path` says.

    `.png` is one grid. `.npz` is ADM's layout: `arr_0` (N, H, W, 3) uint8 and, with classes, `arr_1` labels.
    Anything else is a folder of PNGs, `00000.png` or with classes `00000_LABEL.png`.
    """
    try:
        if path.suffix == ".png":
            write_whole(path, lambda file: Image.fromarray(grid(images, labels).squeeze()).save(file, "PNG"))
        elif path.suffix == ".npz":
            arrays = [np.broadcast_to(images, (*images.shape[:3], 3))] + ([] if labels is None else [labels])
            write_whole(path, lambda file: np.savez(file, *arrays))
        else:
            for i, image in enumerate(images):
                name = f"{i:05d}.png" if labels is None else f"{i:05d}_{labels[i]}.png"
                Image.fromarray(image.squeeze()).save(path / name)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another --out") from error
