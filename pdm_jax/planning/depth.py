"""A quick estimate: one and two blocks a level are compiled, and the rest follows a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pdm_jax.config import Config
from pdm_jax.errors import UserError
from pdm_jax.planning.measured import Measured

_LINEAR = (
    *("num_parameters", "state_bytes", "argument_bytes", "temp_bytes", "peak_bytes"),
    *("model_flops", "flops", "bytes_accessed"),
)


def blocks_of(config: Config) -> int | None:
    """Blocks a level of a U-Net; None of a network whose blocks are scanned: it compiles as quickly at any depth.

    Raises:
      UserError: the network has another number of blocks at each level, or nothing that says how deep it is.
    """
    blocks = config.model.network.get("num_blocks")
    if blocks is None and "depth" in config.model.network:
        return None
    levels = set(blocks) if isinstance(blocks, Sequence) else {blocks}
    if len(levels) != 1 or None in levels:
        raise UserError(
            f"config.model.network.num_blocks is {blocks}; --quick extrapolates one number of blocks for all levels"
        )
    return levels.pop()


def with_blocks(config: Config, blocks: int) -> Config:
    """The config with so many blocks a level, in every part of it."""
    parts = tuple(_shallow(part, blocks) for part in config.split.parts)
    network = {**config.model.network, "num_blocks": blocks}
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, network=network),
        split=dataclasses.replace(config.split, parts=parts),
    )


def extrapolated(one: Measured, two: Measured, blocks: int, memory: float) -> Measured:
    """What `blocks` blocks a level would show, on the line through one and two.

    Args:
      memory: bytes of HBM a device, which decide whether it fits.
    """

    def at(first: float | None, second: float | None) -> float | None:
        return None if first is None or second is None else first + (second - first) * (blocks - 1)

    values = {name: at(getattr(one, name), getattr(two, name)) for name in _LINEAR}
    collectives = {
        kind: tuple(map(at, one.collectives.get(kind, (0, 0)), two.collectives.get(kind, (0, 0))))
        for kind in one.collectives | two.collectives
    }
    return dataclasses.replace(
        two, **values, collectives=collectives, fits=values["peak_bytes"] <= memory, seconds=one.seconds + two.seconds
    )


def _shallow(part: Any, blocks: int) -> dict[str, Any]:
    """What a part differs in, but for its depth."""
    network = part.get("model", {}).get("network", {})
    if "num_blocks" not in network:
        return dict(part)
    return {**part, "model": {**part["model"], "network": {**network, "num_blocks": blocks}}}
