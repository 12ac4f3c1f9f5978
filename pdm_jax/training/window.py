"""Metrics and time of the steps since the last report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from pdm_jax.types import Array


class Window:
    """Collects metrics on the device; `take` fetches their means and the speed.

    Python runs one step ahead of the device at most: enough to hide the host's work, and no batches pile up.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._metrics: list[Mapping[str, Array]] = []
        self._last: Mapping[str, Array] | None = None
        self._restart()

    def add(self, metrics: Mapping[str, Array]) -> None:
        """Takes the metrics of a step that has been dispatched."""
        jax.block_until_ready(self._last)
        self._metrics.append(metrics)
        if self._last is None:  # the first step compiles; the clock starts after it
            jax.block_until_ready(metrics)
            self._restart()
        else:
            self._steps += 1
        self._last = metrics

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside does not count as training time."""
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    def newest(self) -> dict[str, float]:
        """The metrics of the last step, if there was one; waits for it."""
        return {name: float(value) for name, value in (jax.device_get(self._last) or {}).items()}

    def take(self) -> dict[str, float]:
        """Means since the last call, images/s and ms a step; waits for the last step."""
        metrics = jax.device_get(self._metrics)
        seconds = time.perf_counter() - self._start - self._paused
        means = {name: float(np.mean([m[name] for m in metrics])) for name in metrics[0]}
        if self._steps:  # the very first step only compiles
            means |= {
                "images_per_s": self._steps * self._batch_size / seconds,
                "step_ms": 1000 * seconds / self._steps,
            }
        self._metrics = []
        self._restart()
        return means

    def _restart(self) -> None:
        self._start, self._paused, self._steps = time.perf_counter(), 0.0, 0
