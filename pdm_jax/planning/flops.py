"""Multiplications and additions of matrix products and convolutions, in a traced program.

Padding and dilation count only where a product has two real factors, as XLA counts them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax.extend


@dataclasses.dataclass(frozen=True)
class Window:
    """One spatial axis of a convolution."""

    size: int  # of the kernel
    stride: int = 1
    pad: int = 0  # before the input; may be negative
    input_dilation: int = 1
    kernel_dilation: int = 1

    def products(self, num_inputs: int, num_outputs: int) -> int:
        """Pairs of an output and a kernel position whose input exists."""
        end = (num_inputs - 1) * self.input_dilation + 1
        count = 0
        for k in range(self.size):
            first = k * self.kernel_dilation - self.pad  # the dilated position that output 0 reads
            count += sum(
                0 <= first + i * self.stride < end and (first + i * self.stride) % self.input_dilation == 0
                for i in range(num_outputs)
            )
        return count


def program_flops(jaxpr: Any) -> int:
    """FLOPs of a (closed) jaxpr over all devices: loops by their length, the dearest branch, a `while` body once."""
    return sum(_equation_flops(equation) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns)


def _equation_flops(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        return _convolution_flops(equation)
    inner = [program_flops(jaxpr) for jaxpr in _inner(params)]
    if name == "cond":
        return max(inner)
    times = {"scan": lambda: params["length"], "shard_map": lambda: params["mesh"].size}.get(name, lambda: 1)
    return times() * sum(inner)


def _convolution_flops(equation: Any) -> int:
    params = equation.params
    image, kernel = (x.aval.shape for x in equation.invars)
    out = equation.outvars[0].aval.shape
    numbers = params["dimension_numbers"]
    (batch, _, *image_axes), (_, features, *kernel_axes) = numbers.lhs_spec, numbers.rhs_spec
    _, out_features, *out_axes = numbers.out_spec
    positions = 1
    for i, (pad, _) in enumerate(params["padding"]):
        dilations = params["lhs_dilation"][i], params["rhs_dilation"][i]
        window = Window(kernel[kernel_axes[i]], params["window_strides"][i], pad, *dilations)
        positions *= window.products(image[image_axes[i]], out[out_axes[i]])
    samples = image[batch] // params["batch_group_count"]
    return 2 * samples * kernel[features] * out[out_features] * positions


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, jax.extend.core.Jaxpr | jax.extend.core.ClosedJaxpr):
                yield item
