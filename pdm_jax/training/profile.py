"""A trace of some steps for TensorBoard's profiler or Perfetto, one a process."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax

from pdm_jax.errors import UserError

logger = logging.getLogger(__name__)


class Profile:
    """Traces the steps `first` to `last`, counted from 1 as in the reports, into a folder."""

    def __init__(self, folder: Path, window: tuple[int, int] | None, *, step: int):
        """`window`: (first, last), None for no trace; where a run goes on after `step`, what is past is not traced."""
        self._folder, self._window = folder / f"process-{jax.process_index()}", window
        self._active = False
        if window is not None and window[1] <= step:
            logger.warning("steps %d to %d are not traced again: the run is at step %d", *window, step)
            self._window = None

    def before(self, step: int) -> None:
        """Step number `step` is about to be dispatched."""
        if self._window is not None and not self._active and self._window[0] <= step <= self._window[1]:
            jax.profiler.start_trace(str(self._folder))
            self._active = True

    def after(self, step: int, outputs: Any) -> None:
        """Step number `step` was dispatched and will make `outputs`."""
        if self._active and step == self._window[1]:
            jax.block_until_ready(outputs)
            self.close()

    def close(self) -> None:
        """Writes what is being traced."""
        if self._active:
            self._active, self._window = False, None
            jax.profiler.stop_trace()
            logger.info("a trace of the steps is in %s", self._folder)


def check_window(window: tuple[int, int] | None, num_steps: int) -> None:
    """Raises `UserError` if a run has no such steps."""
    if window is not None and not 1 <= window[0] <= window[1] <= num_steps:
        raise UserError(f"--profile is {window[0]}:{window[1]}; expected FIRST:LAST within the steps 1 to {num_steps}")
