"""The largest batch that fits: the line through two batches says which, one more compilation confirms it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from pdm_jax.planning.measured import Measured


@dataclasses.dataclass(frozen=True)
class LargestBatch:
    """Over all devices; 0 if none that was compiled fits."""

    size: int
    how: str  # "confirmed" (the line's answer compiled), "at least" (this compiled, the line is wrong) or "estimate"


def predicted(points: Mapping[int, float], memory: float, unit: int) -> int:
    """The largest multiple of `unit` that fits `memory`, on the line through the two (batch, bytes) nearest to it.

    Memory that does not grow with the batch says nothing; then the largest batch that is known to fit.
    """
    below = sorted(batch for batch, used in points.items() if used <= memory)
    above = sorted(points.keys() - set(below))
    small, large = (below[-1], above[0]) if below and above else (below or above[:2])[-2:]
    slope = (points[large] - points[small]) / (large - small)
    if slope <= 0:
        return below[-1] if below else 0
    return max(int((memory - points[small]) / slope + small) // unit * unit, 0)


def largest_batch(measure: Callable[[int], Measured], batch: int, unit: int, memory: float) -> LargestBatch:
    """Compiles two batches and then the one that their line names; up to twice more where that one does not fit.

    Args:
      measure: compiles a batch size.
      batch: of the config.
      unit: batches are multiples of it.
      memory: bytes of HBM a device; what the compiler says is available of it counts instead as soon as it does.
    """
    other = batch // unit // 2 * unit or 2 * batch
    results, is_confirmed = {size: measure(size) for size in (batch, other)}, False
    for attempt in range(3):
        known = [result.available_bytes for result in results.values() if result.available_bytes]
        limit = min([memory, *known]) * (1 - attempt / 32)  # the compiler also needs some room to place arrays
        size = predicted({size: result.peak_bytes for size, result in results.items()}, limit, unit)
        if size == 0 or (attempt and size in results):
            break
        if size not in results:
            results[size] = measure(size)
        if is_confirmed := results[size].fits:
            break
    fitting = max((size for size, result in results.items() if result.fits), default=0)
    return LargestBatch(fitting, "confirmed" if is_confirmed else "at least")
