"""What a run tells: a progress bar, TensorBoard events, one JSON line a report, sample grids. Process 0 only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter
from tqdm import tqdm


class Reports:
    """Writes `metrics.jsonl`, `events.out.tfevents.*` and `grids/` under a folder."""

    def __init__(self, workdir: Path, *, first_step: int, last_step: int):
        """Reports of steps after `first_step`, left by a run that went on from there before, are dropped."""
        self._active = jax.process_index() == 0
        if not self._active:
            return
        self._workdir = workdir
        self._path = workdir / "metrics.jsonl"
        _drop_after(self._path, first_step)
        self._events = SummaryWriter(str(workdir), purge_step=first_step + 1, write_to_disk=True)
        self._bar = tqdm(total=last_step, initial=first_step, unit="step", dynamic_ncols=True, mininterval=0.5)

    def advance(self) -> None:
        """One more step is done."""
        if self._active:
            self._bar.update()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of the steps up to `step`."""
        if not self._active:
            return
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        text = [f"{name} {values[name]:.4g}" for name in ("loss", "images_per_s") if name in values]
        self._bar.set_postfix_str(", ".join(text).replace("images_per_s", "images/s"), refresh=False)

    def grid(self, step: int, image: np.ndarray) -> None:
        """A sample grid (H, W, C) uint8, as `grids/STEP.png` and in the events."""
        if not self._active:
            return
        folder = self._workdir / "grids"
        folder.mkdir(exist_ok=True)
        Image.fromarray(image.squeeze()).save(folder / f"{step:08d}.png")
        self._events.add_image("samples", image, step, dataformats="HWC")

    def message(self, text: str) -> None:
        """A line above the progress bar."""
        if self._active:
            self._bar.write(text)

    def close(self) -> None:
        """Ends the files."""
        if self._active:
            self._bar.close()
            self._events.close()


def _drop_after(path: Path, step: int) -> None:
    """Rewrites a file of JSON lines without those of later steps and without a line cut short by a kill."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except json.JSONDecodeError:
            continue
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(line + "\n" for line in kept))
    os.replace(temporary, path)
