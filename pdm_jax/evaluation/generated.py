"""An exact number of generated images on disk: what is there is kept, what is missing is made."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from pdm_jax.errors import UserError
from pdm_jax.files import write_whole

_NAME = re.compile(r"images-(\d{8})-(\d{8})\.npz")
_ABOUT = "about.json"


class GeneratedFolder:
    """A folder of archives in ADM's layout, each of the images `start` to `stop - 1` as its name says.

    An archive appears under its name only when it is whole, so that after a kill every index is either there once or
    missing. Image i depends on what the folder is `about` and on i alone; so a larger number continues a smaller one.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]):
        """Opens or makes the folder.

        Args:
          path: the folder.
          about: what the images depend on (weights, sampler, seed, ...), as plain JSON.

        Raises:
          UserError: the folder holds other images, or cannot be made.
        """
        self.path, text = path, json.dumps(about, indent=1, sort_keys=True)
        try:
            if jax.process_index() == 0 and not (path / _ABOUT).exists():
                path.mkdir(parents=True, exist_ok=True)
                write_whole(path / _ABOUT, lambda file: file.write(text.encode()))
            multihost_utils.sync_global_devices("the folder of generated images is there")
            found = (path / _ABOUT).read_text()
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror}; choose another --out") from error
        if found != text:
            raise UserError(f"{path} holds images that were made in another way; choose another --out or remove it")

    def there(self, num: int) -> np.ndarray:
        """Which of the first `num` images are there, [num] bool."""
        found = np.zeros(num, bool)
        for match in filter(None, map(_NAME.fullmatch, os.listdir(self.path))):
            found[int(match[1]) : int(match[2])] = True
        return found

    def write(self, start: int, images: np.ndarray, labels: np.ndarray | None) -> None:
        """Adds images (n, H, W, C) uint8, with their labels (n,), from index `start` on."""
        arrays = [images] if labels is None else [images, labels]
        name = self.path / f"images-{start:08d}-{start + len(images):08d}.npz"
        try:
            write_whole(name, lambda file: np.savez(file, *arrays))
        except OSError as error:
            raise UserError(
                f"cannot write {name}: {error.strerror}; the images so far are kept. "
                "Free space, then run the same command to go on"
            ) from error

    def source(self, num: int) -> str:
        """The data source of the whole images 0 to `num - 1`.

        Raises:
          UserError: some of them are missing.
        """
        if lacking := int(np.count_nonzero(~self.there(num))):
            raise UserError(f"{self.path} lacks {lacking} of {num} images; run the same command to make them")
        return f"npz:{self.path}/images-*.npz"


def fill(
    folder: GeneratedFolder,
    num: int,
    make: Callable[[int, int], Iterator[np.ndarray]],
    labels: np.ndarray | None,
    progress: Callable[[int], None],
) -> float | None:
    """Makes what is missing of the first `num` images, on all hosts together; the first one writes.

    Args:
      make: (stop, start) -> images `start` to stop - 1 in batches (b, H, W, C) uint8.
      labels: [num], or None.
      progress: is told how many images are there.

    Returns:
      Images a second, without the first batch, which compiles; None if no more than one was made.
    """
    there = multihost_utils.broadcast_one_to_all(folder.there(num)).astype(bool)  # disks that are shared lag behind
    progress(int(there.sum()))
    clock, seconds, made = None, 0.0, 0
    edges = np.flatnonzero(np.diff(there, prepend=True, append=True))
    for start, stop in edges.reshape(-1, 2).tolist():
        for images in make(stop, start):
            now = time.perf_counter()
            if clock is not None:
                seconds, made = seconds + now - clock, made + len(images)
            if jax.process_index() == 0:
                folder.write(start, images, None if labels is None else labels[start : start + len(images)])
            start += len(images)
            progress(len(images))
            clock = now
    multihost_utils.sync_global_devices("all images are generated")
    return made / seconds if made else None
