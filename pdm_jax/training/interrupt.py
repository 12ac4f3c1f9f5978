"""SIGTERM and SIGINT as a request to stop after the current step."""

from __future__ import annotations

import signal
import threading
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

_ASK_EVERY = 2.0  # seconds between two questions to the other processes: each makes all wait for their devices
_MOST_STEPS = 1000  # between two questions


class StopSignal:
    """While the `with` block runs, the first SIGTERM or SIGINT is noted; a second SIGINT interrupts."""

    def __init__(self):
        self.obeyed: signal.Signals | None = None  # what ended the training early; the same on all processes
        self._requested: signal.Signals | None = None
        self._previous = {}
        self._wait = self._interval = self._proposed = 1  # steps: until the next question, of this pause, of the next
        self._asked = time.monotonic()

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python does not allow handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self) -> bool:
        """Whether to stop now; call it once a step. A signal to any process stops all, after the same step."""
        self._wait -= 1
        if jax.process_count() == 1:
            self.obeyed = self._requested
        elif self._wait == 0:
            self.obeyed = self._ask()
        return self.obeyed is not None

    def _ask(self) -> signal.Signals | None:
        """What any process was sent, and by the clock of the first one when to ask again."""
        own = np.array([self._requested or 0, self._proposed], np.int32)
        requested, proposed = multihost_utils.process_allgather(own).T
        now = time.monotonic()  # the devices are done with all steps so far, which were only dispatched before
        seconds = (now - self._asked) / self._interval
        self._proposed = int(min(_MOST_STEPS, 1 + _ASK_EVERY // seconds))
        self._wait = self._interval = int(proposed[0])
        self._asked = now
        return signal.Signals(int(requested.max())) if requested.any() else None

    def _handle(self, number: int, _) -> None:
        if self._requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._requested = signal.Signals(number)
