"""Which of the T steps a sampler visits, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate, repeat

import numpy as np

from pdm_jax.errors import UserError


def timesteps(spec: str | int | Sequence[int], num_steps: int) -> np.ndarray:
    """The steps that a sampler visits, ascending.

    Args:
      spec: one of
        * a count, 250 or "250": evenly spread, both ends included (0 and T - 1);
        * counts of equal sections, (90, 60, 60, 20, 20) or "90,60,60,20,20": the T steps are cut into as many
          sections, the least noisy first, and each gives its count, evenly spread (ADM's `space_timesteps`);
        * "ddim50": multiples of the smallest whole stride that gives exactly so many, from 0 (DDIM, ADM);
        * "uniform50": multiples of T // 50, plus 1 (LDM). What that gives is run, which may be more than was asked
          for: "uniform400" of 1000 are 500 steps;
        * "quad50": squares of an even spread up to sqrt(0.8 T), truncated, plus 1 (LDM); the first may repeat.
      num_steps: T.

    Returns:
      int32 [N] in [0, T).

    Raises:
      UserError: `spec` is none of these, or such steps do not exist; near ones that do are named.
    """
    if isinstance(spec, str):
        name, number = re.fullmatch(r"([a-z]*)(.*)", spec.strip()).groups()
        if name:
            return _named(name, number, spec, num_steps)
        spec = [_whole(part, spec) for part in number.split(",")]
    sections = [spec] if isinstance(spec, int) else list(spec)
    return np.asarray(_sections(sections, num_steps), np.int32)


def _named(name: str, number: str, spec: str, num_steps: int) -> np.ndarray:
    if name not in _STRIDES:
        raise _unknown(spec)
    count = _whole(number, spec)
    stride = _STRIDES[name]
    steps = stride(count, num_steps) if 1 <= count <= num_steps else None
    if steps is None:
        possible = [n for n in range(1, num_steps + 1) if stride(n, num_steps) is not None]
        below, above = [n for n in possible if n < count][-1:], [n for n in possible if n > count][:1]
        near = ", ".join(f"{name}{n}" for n in below + above)
        raise UserError(f"steps {spec!r} of {num_steps} do not exist; the nearest that do: {near}")
    return np.asarray(steps, np.int32)


def _sections(counts: Sequence[int], num_steps: int) -> list[int]:
    steps, start = [], 0
    if not 1 <= len(counts) <= num_steps or not any(counts):
        raise UserError(f"steps {list(counts)} of {num_steps} are none; give 1 to {num_steps} counts, not all 0")
    for i, count in enumerate(counts):
        size = num_steps // len(counts) + (i < num_steps % len(counts))
        if not 0 <= count <= size:
            raise UserError(
                f"{count} steps cannot be spread over the {size} of section {i + 1} of {len(counts)}; "
                f"give a count of at most {size}"
            )
        # Added up step by step, as the official programs do: the rounding of ties depends on it.
        strides = repeat((size - 1) / max(count - 1, 1), max(count - 1, 0))
        steps += [start + round(offset) for offset in accumulate(strides, initial=0.0)][:count]
        start += size
    return steps


def _ddim(count: int, num_steps: int) -> list[int] | None:
    stride = -(-num_steps // count)  # the smallest that gives no more than count
    steps = list(range(0, num_steps, stride))
    return steps if len(steps) == count else None


def _uniform(count: int, num_steps: int) -> list[int] | None:
    steps = [t + 1 for t in range(0, num_steps, num_steps // count)]
    return steps if steps[-1] < num_steps else None  # LDM's program stops at the table's end


def _quad(count: int, num_steps: int) -> list[int] | None:
    steps = [int(root**2) + 1 for root in np.linspace(0, np.sqrt(0.8 * num_steps), count)]
    return steps if steps[-1] < num_steps else None


def _whole(text: str, spec: str) -> int:
    if not text.strip().isdecimal():
        raise _unknown(spec)
    return int(text)


def _unknown(spec: str) -> UserError:
    names = ", ".join(f'"{name}50"' for name in _STRIDES)
    return UserError(f'steps {spec!r} are not known; expected a count "250", sections "90,60,60,20,20", or {names}')


_STRIDES: dict[str, Callable[[int, int], list[int] | None]] = {"ddim": _ddim, "uniform": _uniform, "quad": _quad}
