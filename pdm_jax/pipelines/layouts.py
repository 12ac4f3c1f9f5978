"""Canvases of other sizes than the trained one: where their patches lie, and which noise they start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from einops import rearrange, reduce

from pdm_jax import rng
from pdm_jax.config import Config
from pdm_jax.errors import UserError
from pdm_jax.ops import positions
from pdm_jax.types import Array

Margins = tuple[int, int, int, int]  # top, bottom, left, right


@dataclasses.dataclass(frozen=True)
class Layout:
    """What an image is made on, and the window of it that was asked for."""

    size: tuple[int, int]  # (H, W) pixels
    position: np.ndarray | None  # (n + 1, m + 1, 3) of its patches; None for networks that see whole images
    window: tuple[slice, slice]  # rows, columns
    start: Callable[[Array, Array], Array]  # (noise of the trained size (B, h, w, C), keys [B]) -> (B, H, W, C)

    def place(self, image: np.ndarray) -> np.ndarray:
        """An image of the window (h, w, C) among zeros, (H, W, C)."""
        canvas = np.zeros((*self.size, *image.shape[2:]), image.dtype)
        canvas[self.window] = image
        return canvas

    def cut(self, images: np.ndarray) -> np.ndarray:
        """The window of images (B, H, W, C)."""
        return images[:, *self.window]


def upscaled(trained: tuple[int, int], patch_size: int, factor: int) -> Layout:
    """`factor` times the trained size (height, width), with as many more patches between the trained positions."""
    rows, columns = (side // patch_size for side in trained)
    return Layout(
        size=(factor * trained[0], factor * trained[1]),
        position=positions.interpolated(rows, columns, factor),
        window=(slice(None), slice(None)),
        start=lambda noise, keys: enlarged_noise(noise, factor, keys),
    )


def extended(trained: tuple[int, int], patch_size: int, margins: Margins) -> Layout:
    """The trained canvas with margins, in patches, that have no position."""
    top, bottom, left, right = margins
    pixels = tuple(patch_size * margin for margin in margins)
    return Layout(
        size=(trained[0] + pixels[0] + pixels[1], trained[1] + pixels[2] + pixels[3]),
        position=positions.extended(*(side // patch_size for side in trained), top, bottom, left, right),
        window=(slice(None), slice(None)),
        start=lambda noise, keys: surrounded_noise(noise, pixels, keys),
    )


def around(trained: tuple[int, int], patch_size: int, picture: tuple[int, int], margins: Margins) -> Layout:
    """Whole patches around a picture of any size with margins of any width, both in pixels.

    The trained positions are spread over the picture's own patches, the first of which begins where it does; those
    of the margins have none.
    """
    top, bottom, left, right = margins
    rows = _patches(picture[0], top, bottom, patch_size)
    columns = _patches(picture[1], left, right, patch_size)
    size = (patch_size * sum(rows), patch_size * sum(columns))
    position = positions.stretched(*(side // patch_size for side in trained), (rows[1], columns[1]))
    corner = (patch_size * rows[0] - top, patch_size * columns[0] - left)
    return Layout(
        size=size,
        position=positions.surrounded(position, rows[0], rows[2], columns[0], columns[2]),
        window=_window(corner, picture, margins),
        start=lambda noise, keys: rng.normal_each(rng.stream_each(keys, "canvas"), (*size, noise.shape[-1])),
    )


def whole(trained: tuple[int, int], picture: tuple[int, int], margins: Margins) -> Layout:
    """The trained canvas of a network that sees whole images, with a picture and its margins in the upper left corner.

    Raises:
      UserError: they are larger.
    """
    window = _window((0, 0), picture, margins)
    if window[0].stop > trained[0] or window[1].stop > trained[1]:
        raise UserError(
            f"the result would have {window[0].stop}x{window[1].stop} pixels and this model makes "
            f"{trained[0]}x{trained[1]} (height x width); make the picture smaller, or use a model of patch_dm, "
            "which makes any size"
        )
    return Layout(size=trained, position=None, window=window, start=lambda noise, keys: noise)


def check_margins(config: Config) -> None:
    """Raises a `UserError` where a patch_dm model never had to do without positions, as patches of margins have to."""
    if config.model.backbone == "patch_unet" and not config.loss.position_dropout:
        raise UserError(
            "margins have no position and this model never had to do without; train with "
            "config.loss.position_dropout above 0, such as 0.5"
        )


def enlarged_noise(noise: Array, factor: int, keys: Array) -> Array:
    """White noise of `factor` times the size, whose coarse structure is that of the given white noise.

    The mean of each factor x factor block, times the factor, is the given noise at this place. The rest is fresh, so
    that all pixels are independent and standard normal.

    Args:
      noise: (B, H, W, C).
      keys: [B], one a sample.
    """
    _, height, width, channels = noise.shape
    fresh = rng.normal_each(rng.stream_each(keys, "canvas"), (factor * height, factor * width, channels))
    blocks = rearrange(fresh, "b (h p) (w q) c -> b h p w q c", p=factor, q=factor)
    detail = blocks - reduce(blocks, "b h p w q c -> b h 1 w 1 c", "mean")
    coarse = noise[:, :, None, :, None] / factor
    return rearrange(detail + coarse, "b h p w q c -> b (h p) (w q) c")


def surrounded_noise(noise: Array, margins: Margins, keys: Array) -> Array:
    """White noise with so many pixels more around the given white noise.

    Args:
      noise: (B, H, W, C).
      keys: [B], one a sample.
    """
    top, bottom, left, right = margins
    _, height, width, channels = noise.shape
    shape = (top + height + bottom, left + width + right, channels)
    fresh = rng.normal_each(rng.stream_each(keys, "canvas"), shape)
    return fresh.at[:, top : top + height, left : left + width].set(noise)


def _patches(side: int, before: int, after: int, patch_size: int) -> tuple[int, int, int]:
    """How many patches cover the margin before a picture's side, the side from there on, and the margin after it."""
    own = -(-side // patch_size)
    return -(-before // patch_size), own, -(-(side + after) // patch_size) - own


def _window(corner: tuple[int, int], picture: tuple[int, int], margins: Margins) -> tuple[slice, slice]:
    """A picture and its margins, from the corner (row, column) on."""
    top, bottom, left, right = margins
    sides = (top + picture[0] + bottom, left + picture[1] + right)
    return tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))
