"""What a run tells: one JSON line a report, TensorBoard events, a progress bar, sample grids. Process 0 only.

JSON lines need nothing. Events, bar and grids need tensorboardX, tqdm and pillow, and are left out where those are not
installed, as on a bare accelerator image; the bar also where stderr is no terminal.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.files import write_whole


class Reports:
    """Writes `metrics.jsonl`, `events.out.tfevents.*` and `grids/` under a folder."""

    def __init__(self, workdir: Path, *, first_step: int, last_step: int):
        """Reports of steps after `first_step`, left by a run that got further before it died, are dropped."""
        self._active, self._bar = jax.process_index() == 0, None
        if not self._active:
            return
        self._workdir, self._path = workdir, workdir / "metrics.jsonl"
        self._lines = _lines_until(self._path, first_step)
        self._events = _make_events(workdir, first_step)
        self._bar = _make_bar(first_step, last_step)

    @property
    def has_bar(self) -> bool:
        """Whether a progress bar is shown."""
        return self._bar is not None

    def advance(self) -> None:
        """One more step is done."""
        if self._bar is not None:
            self._bar.update()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of the steps up to `step`."""
        if not self._active:
            return
        self._lines.append(json.dumps({"step": step, **values}))
        with _one_line(self._workdir):  # whole, as buckets cannot append
            write_whole(self._path, lambda file: file.write("".join(f"{line}\n" for line in self._lines).encode()))
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
        if self._bar is not None:
            shown = {"loss": values["loss"], "images/s": values.get("images_per_s")}
            text = ", ".join(f"{name} {value:.4g}" for name, value in shown.items() if value is not None)
            self._bar.set_postfix_str(text, refresh=False)

    def grid(self, step: int, image: np.ndarray) -> None:
        """A sample grid (H, W, C) uint8, as `grids/STEP.png` and in the events."""
        if not self._active:
            return
        if importlib.util.find_spec("PIL") is not None:
            from PIL import Image

            folder = self._workdir / "grids"
            with _one_line(self._workdir):
                folder.mkdir(exist_ok=True)
                picture = Image.fromarray(image.squeeze())
                write_whole(folder / f"{step:08d}.png", lambda file: picture.save(file, "PNG"))
        if self._events is not None:
            self._events.add_image("samples", image, step, dataformats="HWC")

    def close(self) -> None:
        """Ends the files."""
        if not self._active:
            return
        if self._bar is not None:
            self._bar.close()
        if self._events is not None:
            with contextlib.suppress(OSError):  # a full disk has been reported, or is when the checkpoint is written
                self._events.close()


@contextlib.contextmanager
def _one_line(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write reports to {workdir}: {error.strerror}; the last complete checkpoint is kept. "
            "Free space, then run the same command to go on"
        ) from error


def _make_events(workdir: Path, first_step: int) -> Any:
    if importlib.util.find_spec("tensorboardX") is None:
        return None
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(workdir), purge_step=first_step + 1)


def _make_bar(first_step: int, last_step: int) -> Any:
    if importlib.util.find_spec("tqdm") is None or not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    return tqdm(total=last_step, initial=first_step, unit="step", dynamic_ncols=True, mininterval=0.5)


def _lines_until(path: Path, step: int) -> list[str]:
    """The JSON lines of a file, without those of later steps."""
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
