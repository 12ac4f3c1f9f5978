"""SIGTERM and SIGINT as a request to stop after the current step."""

from __future__ import annotations

import signal
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils

_AGREE_EVERY = 10  # steps between two questions to the other processes


class StopSignal:
    """While the `with` block runs, the first SIGTERM or SIGINT sets `requested`; a second SIGINT interrupts."""

    def __init__(self):
        self.requested = False
        self._previous = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python does not allow handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self, step: int) -> bool:
        """Whether to stop after `step`, the same on all processes: a signal to any of them stops all."""
        if jax.process_count() == 1:
            return self.requested
        if step % _AGREE_EVERY:
            return False
        return bool(np.any(multihost_utils.process_allgather(np.bool_(self.requested))))

    def _handle(self, number: int, _) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
