"""A 3x3 convolution whose weight gradient is fast on CPUs too.

XLA computes the weight gradient of a convolution as a convolution with a kernel as big as the image. On a CPU that
runs on one core, and from 16x16 upwards at a third of the speed of a matrix product of the same size.
`benchmarks/README.md` has the numbers.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from pdm_jax.ops.devices import is_partitioned
from pdm_jax.types import Array

_SMALLEST_GRID = 256  # places (H * W) from which the matrix product wins
_BLOCK = 1024  # places copied at once: their copies stay in a core's cache


def convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolution with SAME padding; stride 2 on even sizes pads 0 before and 1 after.

    The result is `lax.conv_general_dilated`'s. So is its gradient, up to rounding; it has no forward-mode derivative
    at stride 1.

    Args:
      x: (B, H, W, C).
      kernel: (3, 3, C, D), of the same type.

    Returns:
      (B, H / stride, W / stride, D), sizes rounded up.
    """
    if stride == 1 and x.shape[1] * x.shape[2] >= _SMALLEST_GRID and not is_partitioned():
        return _convolve_stride1(x, kernel)
    return _convolve(x, kernel, stride)


def _convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def _convolve_stride1(x: Array, kernel: Array) -> Array:
    return _convolve(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved

    def by_xla(x: Array, g: Array) -> Array:
        return jax.linear_transpose(lambda kernel: _convolve(x, kernel), kernel)(g)[0]

    (dx,) = jax.linear_transpose(lambda x: _convolve(x, kernel), x)(g)
    return dx, lax.platform_dependent(x, g, cpu=_kernel_gradient, default=by_xla)


_convolve_stride1.defvjp(_forward, _backward)


def _kernel_gradient(x: Array, g: Array) -> Array:
    """The gradient (3, 3, C, D) for input x (B, H, W, C) and output gradient g (B, H, W, D), a block at a time."""
    batch, height, width, channels = x.shape
    limit = max(1, _BLOCK // (height * width))
    size = max(n for n in range(1, min(limit, batch) + 1) if batch % n == 0)  # samples in a block

    def add_block(i: Array, total: Array) -> Array:
        x_block, g_block = (lax.dynamic_slice_in_dim(a, i * size, size) for a in (x, g))
        return total + _block_gradient(x_block, g_block)

    total = jnp.zeros((3 * channels, 3 * g.shape[-1]), jnp.float32)
    total = lax.fori_loop(0, batch // size, add_block, total)
    return total.reshape(3, channels, 3, -1).transpose(2, 0, 1, 3).astype(x.dtype)


def _block_gradient(x: Array, g: Array) -> Array:
    """One matrix product for all nine taps, (3 C, 3 D) float32.

    Tap (i, j) is the sum over (h, w) of x[h + i - 1, w + j - 1] g[h, w], which is that of x[h, w + j - 1]
    g[h + 1 - i, w]: three copies of x shifted along the columns times three of g shifted along the rows, instead of
    nine copies of one of them.
    """
    columns = jnp.concatenate([_shift(x, 2, 1 - j) for j in range(3)], axis=-1)  # (b, H, W, 3 C)
    rows = jnp.concatenate([_shift(g, 1, i - 1) for i in range(3)], axis=-1)  # (b, H, W, 3 D)
    return lax.dot_general(
        columns.reshape(-1, columns.shape[-1]),
        rows.reshape(-1, rows.shape[-1]),
        (((0,), (0,)), ((), ())),
        preferred_element_type=jnp.float32,
    )


def _shift(x: Array, axis: int, distance: int) -> Array:
    """Moves x along an axis by `distance` places; zeros come in."""
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (distance, -distance, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), padding)
