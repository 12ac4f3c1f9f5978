"""Layers of networks that are loaded and never trained: convolution with bias and ReLU, and pools.

In float32 they compute in full float32 on every device: what judges images must give the same numbers on all of
them. In bfloat16 (as a loss) they run at the device's speed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from pdm_jax.types import Array

EXACT = lax.Precision.HIGHEST  # without it GPUs and TPUs multiply float32 in fewer bits
_he = nnx.initializers.he_normal()
_zeros = nnx.initializers.zeros_init()


class ConvRelu(nnx.Module):
    """A convolution with a bias, and ReLU.

    Args:
      in_features, features: channels of input and output.
      kernel: (height, width).
      padding: "SAME", "VALID" or the pixels before and after each side.
      dtype: of the computation.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        kernel: tuple[int, int],
        *,
        stride: int = 1,
        padding: str | int = "SAME",
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(_he(rngs.params(), (*kernel, in_features, features)))
        self.bias = nnx.Param(_zeros(rngs.params(), (features,)))
        self.stride, self.dtype = stride, dtype
        self.padding = padding if isinstance(padding, str) else ((padding, padding),) * 2

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C_in) to (B, H', W', C)."""
        return jax.nn.relu(self.linear(x))

    def linear(self, x: Array) -> Array:
        """The same before the ReLU."""
        x, kernel, bias = (a.astype(self.dtype) for a in (x, self.kernel[...], self.bias[...]))
        return _convolve(x, kernel, self.stride, self.padding) + bias[None, None, None]


class DenseRelu(nnx.Module):
    """A dense layer with a bias, and ReLU."""

    def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_he(rngs.params(), (in_features, features)))
        self.bias = nnx.Param(_zeros(rngs.params(), (features,)))

    def __call__(self, x: Array) -> Array:
        """x (B, C_in) to (B, C)."""
        return jax.nn.relu(jnp.dot(x, self.kernel[...], precision=EXACT) + self.bias[...][None])


def _convolve(x: Array, kernel: Array, stride: int, padding) -> Array:
    """`lax.conv_general_dilated`, by a faster way on CPUs where there is one (`benchmarks/README.md`)."""
    height, width = kernel.shape[:2]
    if (height, width, stride) == (1, 1, 1):
        return jnp.dot(x, kernel[0, 0], precision=EXACT)
    if (padding, stride) == ("VALID", 1):  # odd kernels: the border is computed and cut off
        y = _convolve(x, kernel, 1, "SAME")
        return y[:, height // 2 : -(height // 2), width // 2 : -(width // 2)]
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=layout, precision=EXACT)


def max_pool(x: Array, size: int, stride: int, padding: int = 0) -> Array:
    """The largest of each size x size window of x (B, H, W, C), `padding` pixels beyond the border included."""
    return _pool(jnp.maximum, _pad(x, padding, -jnp.inf), size, stride)


def average_pool(x: Array) -> Array:
    """The mean of x (B, H, W, C) in each 3x3 window, at stride 1; what lies beyond the border does not count."""
    ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    sums, counts = (_pool(jnp.add, _pad(a, 1, 0), size=3, stride=1) for a in (x, ones))
    return sums / counts


def _pool(combine: Callable[[Array, Array], Array], x: Array, size: int, stride: int) -> Array:
    """Combines each size x size window, one axis after the other: on CPUs four times faster than XLA's windows."""
    for axis in (1, 2):
        span = max(0, (x.shape[axis] - size) // stride * stride + 1)
        x = functools.reduce(combine, (lax.slice_in_dim(x, i, i + span, stride, axis) for i in range(size)))
    return x


def _pad(x: Array, padding: int, value: float) -> Array:
    sides = ((0, 0, 0), (padding, padding, 0), (padding, padding, 0), (0, 0, 0))
    return lax.pad(x, jnp.array(value, x.dtype), sides)
