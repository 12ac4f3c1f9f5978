"""PatchGAN's discriminator (Isola et al. 2017), which judges each patch of an image by itself."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.types import Array

_NORM_EPS = 1e-5
_WIDEST = 8  # times the width
_normal = nnx.initializers.normal(0.02)

Statistics = tuple[Array, Array]  # mean and variance [C] of the input of a norm


class BatchNorm(nnx.Module):
    """Normalises each channel over the whole batch, on all devices, or by statistics that are given."""

    def __init__(self, features: int, rngs: nnx.Rngs):
        self.scale = nnx.Param(1 + _normal(rngs.params(), (features,)))
        self.bias = nnx.Param(jnp.zeros((features,), jnp.float32))

    def __call__(self, x: Array, statistics: Statistics | None = None) -> Array:
        """x (B, H, W, C) to the same shape."""
        mean, variance = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if statistics is None else statistics
        multiplier = jax.lax.rsqrt(variance + _NORM_EPS) * self.scale[...]
        offset = self.bias[...] - mean * multiplier
        return x * multiplier[None, None, None] + offset[None, None, None]


class PatchCritic(nnx.Module):
    """Convolutions of 4x4, by strides of 2 but for the last two, with leaky ReLU and batch norm between them.

    Training normalises by the batch, as its program does in training; it keeps no running statistics.

    Args:
      channels: of the images.
      width: channels after the first convolution; they double up to 8 times as many.
      num_layers: strided convolutions. A logit sees 70x70 pixels with 3 and 34x34 with 2.
    """

    def __init__(self, *, channels: int = 3, width: int = 64, num_layers: int = 3, rngs: nnx.Rngs):
        if width < 1 or num_layers < 1:
            raise UserError(
                f"a critic of {num_layers} layers and width {width} cannot be; set critic_layers and critic_width of "
                "config.reconstruction to at least 1"
            )
        self.num_layers = num_layers
        widths = [width * min(2**i, _WIDEST) for i in range(num_layers + 1)]
        strides = [2] * (num_layers - 1) + [1]
        self.conv_in = _conv(channels, width, 2, rngs, use_bias=True)
        self.convs = nnx.List(
            [_conv(i, o, stride, rngs) for i, o, stride in zip(widths, widths[1:], strides, strict=False)]
        )
        self.norms = nnx.List([BatchNorm(features, rngs) for features in widths[1:]])
        self.conv_out = _conv(widths[-1], 1, 1, rngs, use_bias=True)

    def __call__(self, images: Array, statistics: Sequence[Statistics] | None = None) -> Array:
        """Logits (B, h, w, 1), above 0 where an image (B, H, W, channels) in [-1, 1] looks real.

        Args:
          statistics: of each norm's input, to normalise by in place of the batch's.

        Raises:
          UserError: the images are too small for a single logit.
        """
        self.check_size(images.shape[1:3])
        h = _leaky_relu(self.conv_in(images))
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            h = _leaky_relu(norm(conv(h), None if statistics is None else statistics[i]))
        return self.conv_out(h)

    def check_size(self, size: tuple[int, int]) -> None:
        """Raises a `UserError` unless images of `size` (height, width) have a logit."""
        least = 3 * 2**self.num_layers
        if min(size) < least:
            raise UserError(
                f"a critic of {self.num_layers} layers needs images of {least} pixels a side, these are "
                f"{size[0]}x{size[1]}; set a smaller config.reconstruction.critic_layers"
            )


def _conv(in_features: int, features: int, stride: int, rngs: nnx.Rngs, *, use_bias: bool = False) -> nnx.Conv:
    return nnx.Conv(
        in_features, features, (4, 4), strides=stride, padding=1, use_bias=use_bias, kernel_init=_normal, rngs=rngs
    )


def _leaky_relu(x: Array) -> Array:
    return jax.nn.leaky_relu(x, 0.2)
