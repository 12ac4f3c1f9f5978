"""A compiled program as XLA prints it: instructions, by the computation they belong to."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping

_NAME = r"%?([\w.\-]+)"
_HEADER = re.compile(rf"^(ENTRY )?{_NAME} \(.*\{{$")
_INSTRUCTION = re.compile(rf"^\s+(?:ROOT )?{_NAME} = (.*?) ([a-z][a-z0-9-]*)\(([^()]*)\)?(.*)$")
_SHAPE = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Shape:
    """Of one array."""

    dtype: str  # bf16, f32, s32, pred, ...
    dims: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Without the padding of its layout."""
        bits = re.search(r"\d+", self.dtype)
        return math.prod(self.dims) * (int(bits[0]) if bits else 8) // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line."""

    name: str
    shapes: tuple[Shape, ...]  # several of a tuple
    opcode: str
    operands: tuple[str, ...]  # names; of a constant its value
    attributes: str  # what follows the operands

    def called(self, *keys: str) -> tuple[str, ...]:
        """The computations that the attributes `keys` name, as in `calls=%fused` or `branch_computations={%a, %b}`."""
        found = re.findall(rf"\b(?:{'|'.join(keys)})=(\{{[^}}]*\}}|%[\w.\-]+)", self.attributes)
        return tuple(name for text in found for name in re.findall(r"%([\w.\-]+)", text))


@dataclasses.dataclass(frozen=True)
class Module:
    """All computations of a program."""

    computations: Mapping[str, tuple[Instruction, ...]]
    entry: str

    def trip_count(self, loop: Instruction) -> int | None:
        """How often a `while` runs its body: the one integer that its condition compares with; None where unknown.

        Counters of scans start at 0 and rise by 1.
        """
        if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
            return int(known[1])
        condition = self.computations[loop.called("condition")[0]]
        limits = [each.operands[0] for each in condition if each.opcode == "constant" and each.shapes[0].dtype == "s32"]
        return int(limits[0]) if len(limits) == 1 else None


def read_module(text: str) -> Module:
    """Reads the text of a compiled program."""
    computations: dict[str, list[Instruction]] = {}
    name = entry = ""
    for line in text.splitlines():
        if header := _HEADER.match(line):
            name = header[2]
            computations[name] = []
            entry = name if header[1] else entry
        elif name and (found := _INSTRUCTION.match(line)):
            computations[name].append(_instruction(*found.groups()))
    return Module({name: tuple(lines) for name, lines in computations.items()}, entry)


def num_bytes(shapes: Iterable[Shape]) -> int:
    """Of all arrays of a tuple."""
    return sum(shape.num_bytes for shape in shapes)


def _instruction(name: str, shape: str, opcode: str, operands: str, attributes: str) -> Instruction:
    shapes = tuple(Shape(dtype, _dims(dims)) for dtype, dims in _SHAPE.findall(shape))
    names = (operands,) if opcode == "constant" else tuple(re.findall(r"%([\w.\-]+)", operands))
    return Instruction(name, shapes, opcode, names, attributes)


def _dims(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(",")) if text else ()
