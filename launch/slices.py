"""The TPU slices that can be asked for, under the names that Cloud TPU gives them.

Sizes, runtimes and topologies are those of Google Cloud's documentation ("TPU versions" and "Plan TPUs in GKE").
"""

from __future__ import annotations

import dataclasses
import math
import re

from pdm_jax.errors import UserError

_HOST_CHIPS = 4  # of every GKE node pool that xpk makes


@dataclasses.dataclass(frozen=True)
class Slice:
    """A TPU slice: its Cloud TPU name and runtime, and what GKE calls it ("" where GKE has none)."""

    name: str
    runtime: str
    gke_label: str
    topology: str

    @property
    def chips_a_host(self) -> int:
        """Of a slice that GKE has."""
        return min(_chips(self.topology), _HOST_CHIPS)

    @property
    def hosts(self) -> int:
        """Nodes of a slice that GKE has."""
        return _chips(self.topology) // self.chips_a_host


def _chips(topology: str) -> int:
    return math.prod(map(int, topology.split("x")))


def _sizes(cores: int, topologies: str) -> dict[int, str]:
    """Topologies by the number in a slice's name, which counts chips or, with two cores a chip, cores."""
    return {cores * _chips(topology): topology for topology in topologies.split()}


_FLAT = "4x4 4x8 8x8 8x16 16x16"
_DEEP = "2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8 8x8x12 8x8x16 8x16x16"
_GENERATIONS = {  # runtime, GKE's label, topology by the number in the name
    "v2": ("tpu-ubuntu2204-base", "", dict.fromkeys((8, 32, 128, 256, 512), "")),
    "v3": ("tpu-ubuntu2204-base", "", dict.fromkeys((8, 32, 64, 128, 256, 512, 1024, 2048), "")),
    "v4": ("tpu-ubuntu2204-base", "tpu-v4-podslice", _sizes(2, _DEEP)),
    "v5litepod": ("v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", dict.fromkeys((1, 4), "") | _sizes(1, f"2x4 {_FLAT}")),
    "v5p": ("v2-alpha-tpuv5", "tpu-v5p-slice", _sizes(2, _DEEP)),
    "v6e": ("v2-alpha-tpuv6e", "tpu-v6e-slice", _sizes(1, f"1x1 2x2 2x4 {_FLAT}")),
}


def find_slice(name: str, *, on_gke: bool) -> Slice:
    """The slice of a name such as v2-8 or v5litepod-16; v5e- is another word for v5litepod-.

    Raises:
      UserError: there is none of this name, or none of it on GKE.
    """
    generation, _, size = re.sub("^v5e-", "v5litepod-", name).partition("-")
    runtime, gke_label, topologies = _GENERATIONS.get(generation, ("", "", {}))
    sizes = {str(number): topology for number, topology in topologies.items() if topology or not on_gke}
    if size in sizes:
        return Slice(f"{generation}-{size}", runtime, gke_label, sizes[size])
    if sizes:
        raise UserError(f"accelerator is {name}; {generation} comes as {', '.join(f'{generation}-{n}' for n in sizes)}")
    known = [each for each, (_, label, _) in _GENERATIONS.items() if label or not on_gke]
    where = "GKE has" if on_gke else "Cloud TPU has"
    raise UserError(f"accelerator is {name}; {where} {', '.join(f'{each}-N' for each in known)}, such as v5litepod-16")
