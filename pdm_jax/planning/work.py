"""What a compiled program does on one device: FLOPs, bytes, and what it sends to the others."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

from pdm_jax.planning.flops import Window
from pdm_jax.planning.hlo import Instruction, Module, num_bytes, read_module

# Bytes that each of n devices sends in a ring, for one byte that each of them brings.
_SENT = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: n - 1,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "ragged-all-to-all": lambda n: (n - 1) / n,
    "collective-broadcast": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1,
}
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "partition-id", "after-all"}


@dataclasses.dataclass(frozen=True)
class Work:
    """Of a program or a part of it, on one device."""

    flops: float = 0  # of matrix products and convolutions
    num_bytes: float = 0  # that instructions read and write, a fusion as one; only good for comparing with itself
    collectives: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)  # kind: (calls, bytes)
    unknown_loops: int = 0  # loops of unknown length, whose body is counted once

    def __add__(self, other: Work) -> Work:
        both = dict(self.collectives)
        for kind, (count, sent) in other.collectives.items():
            both[kind] = (both.get(kind, (0, 0))[0] + count, both.get(kind, (0, 0))[1] + sent)
        unknown = self.unknown_loops + other.unknown_loops
        return Work(self.flops + other.flops, self.num_bytes + other.num_bytes, both, unknown)

    def __mul__(self, times: float) -> Work:
        collectives = {kind: (count * times, sent * times) for kind, (count, sent) in self.collectives.items()}
        return Work(self.flops * times, self.num_bytes * times, collectives, self.unknown_loops)


def work_of(text: str, num_devices: int, *, loops: bool = True) -> Work:
    """Reads a compiled program's text.

    Args:
      num_devices: that run it, for collectives over all.
      loops: counts a loop's body as often as it runs; otherwise once, as XLA's own cost analysis does.
    """
    module = read_module(text)

    @functools.cache
    def total(name: str) -> Work:
        shapes = {each.name: each.shapes for each in module.computations[name]}
        return sum((one(each, shapes) for each in module.computations[name]), Work())

    def one(each: Instruction, shapes: Mapping[str, tuple]) -> Work:
        if each.opcode in _FREE or each.opcode.endswith("-done"):
            return Work()
        if each.opcode == "while":
            return _loop(module, each, total(each.called("body")[0]), loops)
        if each.opcode == "conditional":
            branches = each.called("branch_computations", "true_computation", "false_computation")
            return max((total(branch) for branch in branches), key=lambda work: (work.flops, work.num_bytes))
        if each.opcode in ("call", "async-start"):
            return sum((total(name) for name in each.called("calls", "to_apply")), Work())
        operands = [shapes.get(name, ()) for name in each.operands]
        own = Work(_flops(each, operands), num_bytes(each.shapes) + sum(map(num_bytes, operands)))
        if each.opcode == "fusion":
            inside = sum((total(name) for name in each.called("calls")), Work())
            own += dataclasses.replace(inside, num_bytes=0)
        return own + _collective(each, operands, num_devices)

    return total(module.entry)


def _loop(module: Module, loop: Instruction, body: Work, loops: bool) -> Work:
    count = module.trip_count(loop)
    if count is None:
        return body + Work(unknown_loops=1)
    return body * count if loops else body


def _collective(each: Instruction, operands: list, num_devices: int) -> Work:
    kind = each.opcode.removesuffix("-start")
    if kind not in _SENT:
        return Work()
    size = group_size(each.attributes, num_devices)
    return Work(collectives={kind: (1, sum(map(num_bytes, operands)) * _SENT[kind](size))})


def group_size(attributes: str, num_devices: int) -> int:
    """How many devices take part: `{{0,1},{2,3}}`, `[4,2]<=[8]` (4 groups of 2) or `mesh['a'=4,'b'=2] {'b'}`."""
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    if table := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
        return int(table[1])
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return listed[1].count(",") + 1
    return num_devices


def _flops(each: Instruction, operands: list) -> int:
    if each.opcode == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", each.attributes)[1]
        left = operands[0][0].dims
        return 2 * math.prod(each.shapes[0].dims) * math.prod(left[int(axis)] for axis in contracted.split(",") if axis)
    if each.opcode == "convolution":
        return _convolution_flops(each, operands[0][0].dims, operands[1][0].dims)
    return 0


def _convolution_flops(each: Instruction, image: tuple, kernel: tuple) -> int:
    left, right, out = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", each.attributes).groups()
    window = dict(re.findall(r"(\w+)=([\dx_\-]+)", (re.search(r"window=\{([^}]*)\}", each.attributes) or [""] * 2)[1]))
    groups = re.search(r"batch_group_count=(\d+)", each.attributes)
    samples = image[left.index("b")] // (int(groups[1]) if groups else 1)
    features = kernel[right.index("i")] * each.shapes[0].dims[out.index("f")]
    return 2 * samples * features * _positions(window, left, out, image, each.shapes[0].dims)


def _positions(window: Mapping[str, str], left: str, out: str, image: tuple, output: tuple) -> int:
    axes = [label for label in left if label.isdigit()]

    def settings(key: str, default: str) -> list[str]:
        return window[key].split("x") if key in window else [default] * len(axes)

    names = {"size": "1", "stride": "1", "pad": "0_0", "lhs_dilate": "1", "rhs_dilate": "1"}
    count = 1
    columns = zip(sorted(axes), *(settings(key, default) for key, default in names.items()), strict=True)
    for axis, size, stride, pad, *dilations in columns:
        one = Window(int(size), int(stride), int(pad.split("_")[0]), *map(int, dilations))
        count *= one.products(image[left.index(axis)], output[out.index(axis)])
    return count
