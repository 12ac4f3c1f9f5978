"""The least time that a program can take, from what its chip is published to do."""

from __future__ import annotations

import dataclasses

from pdm_jax.planning.measured import Measured
from pdm_jax.planning.slices import Slice


@dataclasses.dataclass(frozen=True)
class Bound:
    """Seconds that each resource alone would need for one call; no promise that they overlap or reach their peak."""

    compute: float
    memory: float
    network: float

    @property
    def seconds(self) -> float:
        """No call is faster than its slowest resource."""
        return max(dataclasses.astuple(self))

    @property
    def limit(self) -> str:
        """Which resource that is."""
        return max(dataclasses.asdict(self), key=dataclasses.asdict(self).get)


def bound_of(measured: Measured, where: Slice) -> Bound | None:
    """The bound of a compiled program; None where it does not fit.

    What a device sends counts as if it had all links of its chip, since devices of one chip can share what they bring.
    """
    if measured.flops is None:
        return None
    chip = where.chip
    sent = sum(num_bytes for _, num_bytes in measured.collectives.values())
    return Bound(
        compute=measured.flops * chip.devices / chip.flops,
        memory=measured.bytes_accessed * chip.devices / chip.bandwidth,
        network=sent / chip.network,
    )


def ridge(where: Slice) -> float:
    """FLOPs a byte from which on a chip is limited by its arithmetic."""
    return where.chip.flops / where.chip.bandwidth
