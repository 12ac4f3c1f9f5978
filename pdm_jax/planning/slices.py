"""TPU slices as Cloud TPU names them, and what their chips are published to do.

Figures are per chip; v2, v3 have two devices a chip, so that a device has half of them. Sources:
  v3, v4, v5e, v5p, v6e: cloud.google.com/tpu/docs/{v3,v4,v5e,v5p,v6e}, "Key specifications", and their slice shapes.
  v2: a v2-8 of four chips is published with 180 TFLOP/s; 16 GiB and 700 GB/s a chip as v3's page compares them.
  Network: v5e, v5p, v6e as on those pages (half of the bidirectional figure: what a chip can send). v2, v3: four links
  of 496 and 656 Gbit/s (Jouppi et al., "A Domain-Specific Supercomputer for Training Deep Neural Networks", 2020).
  v4: six links of 50 GB/s (Jouppi et al., "TPU v4: An Optically Reconfigurable Supercomputer", 2023, table 4).
"""

from __future__ import annotations

import dataclasses
import math
import re

from pdm_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
    """One generation of TPU; rates are per second and per chip."""

    flops: float  # peak, bfloat16
    memory: int  # bytes of HBM
    bandwidth: float  # bytes of HBM
    network: float  # bytes that it can send to its neighbours over all links
    devices: int  # that JAX sees on a chip
    units: int  # by which a slice's name counts a chip: 2 where it counts cores


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that are wired together and rented as one."""

    name: str  # v2-8
    chip: Chip
    num_chips: int
    topology: str  # as libtpu names it: v2:2x2
    options: tuple[tuple[str, str], ...] = ()  # libtpu's, besides the topology

    @property
    def num_devices(self) -> int:
        """Devices that JAX sees."""
        return self.num_chips * self.chip.devices

    @property
    def memory(self) -> float:
        """Bytes of HBM a device."""
        return self.chip.memory / self.chip.devices


_GIB = 2**30
_CHIPS = {
    "v2": Chip(45e12, 16 * _GIB, 700e9, 4 * 62e9, devices=2, units=2),
    "v3": Chip(123e12, 32 * _GIB, 900e9, 4 * 82e9, devices=2, units=2),
    "v4": Chip(275e12, 32 * _GIB, 1200e9, 300e9, devices=1, units=2),
    "v5e": Chip(197e12, 16 * _GIB, 819e9, 200e9, devices=1, units=1),
    "v5p": Chip(459e12, 95 * _GIB, 2765e9, 600e9, devices=1, units=2),
    "v6e": Chip(918e12, 32 * _GIB, 1638e9, 400e9, devices=1, units=1),
}
_CUBES = "2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8 8x8x16 8x16x16"
_SQUARES = "1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16"
_SHAPES = {
    "v2": "2x2 4x4 8x8 8x16 16x16",
    "v3": "2x2 4x4 4x8 8x8 8x16 16x16 16x32 32x32",
    "v4": _CUBES,
    "v5e": _SQUARES,
    "v5p": f"{_CUBES} 16x16x16 16x16x24",
    "v6e": _SQUARES,
}
# By default libtpu shows the two cores of a v4 chip apart; a Cloud TPU joins them.
_OPTIONS = {"v4": (("chip_config_name", "megacore"),)}


def _slices() -> dict[str, Slice]:
    found = {}
    for generation, chip in _CHIPS.items():
        for shape in _SHAPES[generation].split():
            num_chips = math.prod(int(size) for size in shape.split("x"))
            name = f"{generation}-{num_chips * chip.units}"
            found[name] = Slice(name, chip, num_chips, f"{generation}:{shape}", _OPTIONS.get(generation, ()))
    return found


SLICES = _slices()
ALL = ("v2-8", "v3-32", "v4-128", "v5e-256", "v5p-128", "v6e-256")  # one of each generation


def find_slices(names: str) -> tuple[Slice, ...]:
    """The slices of a list like `v2-8,v5litepod-16`, or one of each generation for `all`.

    Raises:
      UserError: there is no such slice; the message lists those of its generation, or the generations.
    """
    wanted = ALL if names == "all" else tuple(name.strip() for name in names.split(","))
    return tuple(_find(re.sub("^v5litepod-", "v5e-", name)) for name in dict.fromkeys(wanted))


def _find(name: str) -> Slice:
    if name in SLICES:
        return SLICES[name]
    generation = name.partition("-")[0]
    if generation not in _CHIPS:
        known = "; ".join(_known(generation) for generation in _CHIPS)
        raise UserError(f"there is no topology {name!r}; expected all or one of {known}")
    raise UserError(f"there is no topology {name!r}; expected one of {_known(generation)}")


def _known(generation: str) -> str:
    sizes = [name.partition("-")[2] for name in SLICES if name.startswith(f"{generation}-")]
    return f"{generation}-{{{','.join(sizes)}}}"
