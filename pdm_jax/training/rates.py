"""The learning rate of each update: linear warm-up, then a schedule, in one cycle or several."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from itertools import accumulate

import jax.numpy as jnp

from pdm_jax.config import OptimizerConfig, convert
from pdm_jax.errors import UserError
from pdm_jax.types import Array

_KINDS = ("constant", "linear", "cosine")
_OF_A_CYCLE = ("learning_rate", "warmup_steps", "schedule_steps", "start_factor", "end_factor")


def learning_rate(config: OptimizerConfig) -> Callable[[Array], Array]:
    """The rate, float32, as a function of the updates done before (int32 scalar).

    It grows linearly from `start_factor` times `learning_rate` to all of it in `warmup_steps`. Then it stays, or goes
    down to `end_factor` times it at `schedule_steps` and stays there: as half a cosine, or on the straight line that
    begins where the cycle does (LDM's program), so that a linear schedule falls by a little as warm-up ends. A restart
    begins with the update after the last of the cycle before.

    Raises:
      UserError: an unknown schedule, one without an end or that ends in its warm-up, or restarts it cannot have.
    """
    cycles = [config, *(_restart(config, i) for i in range(len(config.restarts)))]
    for cycle in cycles:
        _check(cycle)
    ends = list(accumulate(cycle.schedule_steps for cycle in cycles[:-1])) if cycles[1:] else []

    def rate(count: Array) -> Array:
        value = _in_cycle(cycles[0], count)
        for end, cycle in zip(ends, cycles[1:], strict=True):
            value = jnp.where(count > end, _in_cycle(cycle, count - end), value)
        return value

    return rate


def _in_cycle(config: OptimizerConfig, count: Array) -> Array:
    """The rate after `count` updates of a cycle."""
    start, end, warmup, length = config.start_factor, config.end_factor, config.warmup_steps, config.schedule_steps
    factor = jnp.float32(1)
    if config.schedule == "linear":
        factor = end + (1 - end) * jnp.clip(1 - count / length, 0, 1)
    elif config.schedule == "cosine":
        done = jnp.clip((count - warmup) / (length - warmup), 0, 1)
        factor = end + (1 - end) * (1 + jnp.cos(jnp.pi * done)) / 2
    if warmup:
        factor = jnp.where(count < warmup, start + (1 - start) * (count / warmup), factor)
    return jnp.float32(config.learning_rate) * factor


def _restart(config: OptimizerConfig, number: int) -> OptimizerConfig:
    path, hints = f"config.optimizer.restarts[{number}]", typing.get_type_hints(OptimizerConfig)
    settings = config.restarts[number]
    if unknown := [name for name in settings if name not in _OF_A_CYCLE]:
        raise UserError(f"{path}.{unknown[0]} is not of a cycle; it has {', '.join(_OF_A_CYCLE)}")
    own = {name: convert(value, hints[name], f"{path}.{name}") for name, value in settings.items()}
    return dataclasses.replace(config, restarts=(), **own)


def _check(config: OptimizerConfig) -> None:
    if config.schedule not in _KINDS:
        raise UserError(f"config.optimizer.schedule is {config.schedule!r}; expected one of {', '.join(_KINDS)}")
    length = config.schedule_steps
    if length is None and (config.schedule != "constant" or config.restarts):
        raise UserError(
            f"config.optimizer.schedule_steps is missing; a schedule that is {config.schedule!r} or restarts needs it"
        )
    if length is not None and length <= config.warmup_steps:
        raise UserError(
            f"config.optimizer.schedule_steps is {length}; expected more than the {config.warmup_steps} of warmup_steps"
        )
