"""The largest batch that fits: the line through two batches says which, one more compilation confirms it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from pdm_jax.planning.measured import Measured


@dataclasses.dataclass(frozen=True)
class LargestBatch:
    """Over all devices; 0 if not even one sample a device fits."""

    size: int
    how: str  # "confirmed" (the line's answer compiled), "at least" (this compiled, the line is wrong) or "estimate"


def predicted(points: dict[int, float], memory: float, unit: int) -> int:
    """The largest multiple of `unit` that fits `memory`, on the line through (batch, bytes) of the two largest batches.

    Memory that does not grow with the batch says nothing; then the largest batch that is known to fit.
    """
    (small, low), (large, high) = sorted(points.items())[-2:]
    slope = (high - low) / (large - small)
    if slope <= 0:
        return max((batch for batch, used in points.items() if used <= memory), default=0)
    return max(int((memory - low) / slope + small) // unit * unit, 0)


def largest_batch(measure: Callable[[int], Measured], batch: int, unit: int, memory: float) -> LargestBatch:
    """Compiles two batches and then the one that their line names; once more if that one does not fit after all.

    Args:
      measure: compiles a batch size.
      batch: of the config.
      unit: batches are multiples of it.
      memory: bytes of HBM a device; what the compiler says is available of it counts instead as soon as it does.
    """
    other = batch // unit // 2 * unit or 2 * batch
    results, is_confirmed = {size: measure(size) for size in (batch, other)}, False
    for is_second in (False, True):
        known = [result.available_bytes for result in results.values() if result.available_bytes]
        size = predicted({size: result.peak_bytes for size, result in results.items()}, min([memory, *known]), unit)
        if size == 0 or (is_second and size in results):
            break
        if size not in results:
            results[size] = measure(size)
        if is_confirmed := results[size].fits:
            break
    fitting = max((size for size, result in results.items() if result.fits), default=0)
    return LargestBatch(fitting, "confirmed" if is_confirmed else "at least")
