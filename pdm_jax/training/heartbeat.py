"""A sign of life every so often, for people and for programs: step, loss, images a second and the time that is left."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import jax

from pdm_jax.errors import UserError
from pdm_jax.evaluation.results import plain
from pdm_jax.files import write_whole

logger = logging.getLogger(__name__)
_EVERY = 30.0  # seconds


class Heartbeat:
    """Writes `heartbeat.json` under a folder, and a line to the log; process 0 only.

    The file holds `time` (ISO 8601, UTC), `step`, `num_steps`, `loss`, and once they are known `images_per_s` and
    `seconds_left`. Both count all that a run does, evaluations and checkpoints too.
    """

    def __init__(self, folder: Path, *, batch_size: int, num_steps: int, silent: bool):
        """`silent`: the file only, as where a progress bar shows the same."""
        self._path, self._batch_size, self._num_steps = folder / "heartbeat.json", batch_size, num_steps
        self._silent, self._active = silent, jax.process_index() == 0
        self._last: tuple[int, float] | None = None  # step and time of the beat before

    def beat(self, step: int, newest: Callable[[], Mapping[str, float]], *, last: bool) -> None:
        """One more step is done; says so if it is the first (the others tell the speed), the last, or time.

        Args:
          step: updates done.
          newest: the metrics of this step, which waits for the devices.

        Raises:
          UserError: the file cannot be written.
        """
        due = last or self._last is None or time.monotonic() - self._last[1] >= _EVERY
        if not (self._active and due):
            return
        facts = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "step": step, "num_steps": self._num_steps}
        facts["loss"] = newest()["loss"]
        now = time.monotonic()
        if self._last is not None:
            seconds = (now - self._last[1]) / (step - self._last[0])
            facts |= {"images_per_s": self._batch_size / seconds, "seconds_left": seconds * (self._num_steps - step)}
        self._last = step, now
        text = json.dumps({name: plain(x) if isinstance(x, float) else x for name, x in facts.items()})
        try:
            write_whole(self._path, lambda file: file.write(f"{text}\n".encode()))
        except OSError as error:
            raise UserError(
                f"cannot write {self._path}: {error.strerror}; free space, then run the same command"
            ) from error
        if not self._silent:
            logger.info(_line(facts))


def _line(facts: Mapping[str, float]) -> str:
    """`step 120/1000, loss 7.83, 88.9 images/s, 3 min 20 s left`."""
    line = f"step {facts['step']}/{facts['num_steps']}, loss {facts['loss']:.4g}"
    if "images_per_s" not in facts:
        return line
    return f"{line}, {facts['images_per_s']:.4g} images/s, {_duration(facts['seconds_left'])} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
