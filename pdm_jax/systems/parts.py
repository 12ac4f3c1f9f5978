"""The networks of a split model (PDM section 4.1), each as a config of its own that trains like any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pdm_jax.config import Config, SplitConfig, read, to_dict
from pdm_jax.diffusion import Process, make_process
from pdm_jax.errors import UserError

_OWN_GROUPS = ("model", "loss", "optimizer", "ema", "train", "checkpoint")  # what parts may differ in


@dataclasses.dataclass(frozen=True)
class Part:
    """One network and the steps it serves."""

    name: str  # "" of a model that is not split
    config: Config  # of its training, without a split: its loss draws steps of its range only
    start: int  # it serves start <= t < stop
    stop: int


def parts_of(config: Config) -> tuple[Part, ...]:
    """The parts of a config, from the noisiest to the least noisy; one part without a name if it is not split.

    Raises:
      UserError: boundaries outside (0, T) or not descending, or settings that no part can have.
    """
    process = make_process(config.diffusion)
    boundaries = boundaries_of(config.split, process)
    if config.loss.t_max > process.num_steps:
        raise UserError(f"config.loss.t_max is {config.loss.t_max}; expected at most T, {process.num_steps}")
    stops, starts = (process.num_steps, *boundaries), (*boundaries, 0)
    overrides = config.split.parts or ({},) * len(starts)
    if len(overrides) != len(starts):
        raise UserError(
            f"config.split.parts has {len(overrides)} parts, the boundaries {list(boundaries)} make {len(starts)}"
        )
    patch_sizes = _patch_sizes(config.model.patch_size, len(starts))
    names = {1: ("",), 2: ("high", "low")}.get(len(starts)) or tuple(f"part{i}" for i in range(len(starts)))
    return tuple(
        Part(name, _part_config(config, start, stop, patch_size, override, i), start, stop)
        for i, (name, start, stop, patch_size, override) in enumerate(
            zip(names, starts, stops, patch_sizes, overrides, strict=True)
        )
    )


def boundaries_of(split: SplitConfig, process: Process) -> tuple[int, ...]:
    """The steps at which a model is split, descending; () if it is not."""
    steps, ratios = _as_tuple(split.boundaries), _as_tuple(split.snr)
    if steps and ratios:
        raise UserError("config.split has boundaries and snr; give one of them")
    steps = steps or tuple(process.step_of_snr(ratio) for ratio in ratios)
    if wrong := [step for step in steps if not 0 < step < process.num_steps]:
        raise UserError(
            f"config.split puts a boundary at step {wrong[0]}; expected 1 to {process.num_steps - 1}, "
            "so that both sides have steps"
        )
    if list(steps) != sorted(set(steps), reverse=True):
        raise UserError(f"config.split has the boundaries {list(steps)}; expected descending steps, each once")
    return steps


def _part_config(
    config: Config, start: int, stop: int, patch_size: int, override: Mapping[str, Any], number: int
) -> Config:
    values, path = to_dict(config), f"config.split.parts[{number}]"
    values["split"] = {}
    values["model"]["patch_size"] = patch_size
    for group, settings in override.items():
        if group not in _OWN_GROUPS:
            raise UserError(
                f"{path}.{group} cannot differ between the parts of a model; "
                f"they may differ in {', '.join(_OWN_GROUPS)}"
            )
        if not isinstance(settings, Mapping):
            raise UserError(f"{path}.{group} is {settings!r}; expected a group of settings")
        values[group] = _merged(values[group], settings)
    values["loss"]["t_min"] = max(start, values["loss"]["t_min"])
    values["loss"]["t_max"] = min(stop, values["loss"]["t_max"])
    part = read(Config, values, "config" if not override else path)
    if part.model.num_classes != config.model.num_classes:
        raise UserError(f"{path}.model.num_classes cannot differ between the parts of a model")
    return part


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some changed, also inside groups of them."""
    merged = dict(values)
    for key, value in changes.items():
        inner = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if inner else value
    return merged


def _patch_sizes(patch_size: int | Sequence[int], count: int) -> tuple[int, ...]:
    sizes = _as_tuple(patch_size)
    if len(sizes) == 1:
        sizes *= count
    if len(sizes) != count:
        raise UserError(f"config.model.patch_size has {len(sizes)} sizes for {count} networks; give one or {count}")
    if wrong := [size for size in sizes if size < 1]:
        raise UserError(f"config.model.patch_size is {wrong[0]}; expected at least 1")
    return sizes


def _as_tuple(value: Any) -> tuple:
    return tuple(value) if isinstance(value, Sequence) else (value,)
