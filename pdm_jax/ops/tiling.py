"""A function of small images applied to a large one, tile by tile, and what it gives put together again.

Tiles overlap; where they do, each counts by the distance to its own border (the official program of Rombach et al.
2022, `split_input_params`), so that no seam shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.types import Array

Size = int | tuple[int, int]  # of squares, or (height, width)
Clip = tuple[float, float]  # least and largest weight
CLIP: Clip = (0.01, 0.5)  # the official one


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Where the tiles of a canvas lie."""

    size: tuple[int, int]  # (h, w) of each
    rows: tuple[int, ...]  # where they begin, n of them
    columns: tuple[int, ...]  # m of them

    @cached_property
    def starts(self) -> np.ndarray:
        """The first row and column of each, (n m, 2) int32, row by row."""
        return np.array([(row, column) for row in self.rows for column in self.columns], np.int32)

    def weights(self, clip: Clip | None) -> np.ndarray:
        """How much each counts [n m]: the more the nearer to the middle of the canvas; None: all the same."""
        grid = len(self.rows), len(self.columns)
        return np.ones(len(self.starts), np.float32) if clip is None else border_weights(grid, clip).reshape(-1)

    def scaled(self, scale: Fraction | int) -> Tiles:
        """The same tiles of a canvas that is `scale` times as large; raises `UserError` if they cut through pixels."""
        values = [*self.size, *self.rows, *self.columns]
        if any((value * Fraction(scale)).denominator > 1 for value in values):
            raise UserError(
                f"tiles of {self.size[0]}x{self.size[1]} at rows {list(self.rows)}, columns {list(self.columns)} cut "
                f"pixels of a scale of {scale}; choose images, tiles and strides that divide by {1 / Fraction(scale)}"
            )
        return Tiles(*(tuple(int(value * Fraction(scale)) for value in part) for part in dataclasses.astuple(self)))


def lay_tiles(canvas: tuple[int, int], kernel: Size, stride: Size) -> Tiles:
    """Tiles of side `kernel`, one every `stride` pixels, over a canvas (H, W).

    What they leave is covered by one more that ends with the canvas (the official program stops there); a kernel
    larger than the canvas is cut to it.

    Raises:
      UserError: a stride below 1, or larger than the kernel.
    """
    kernel, stride = _pair(kernel), _pair(stride)
    if not all(1 <= s <= k for s, k in zip(stride, kernel, strict=True)):
        raise UserError(f"tiles of {list(kernel)} every {list(stride)} pixels; expected a stride of 1 to their side")
    size = tuple(min(k, side) for k, side in zip(kernel, canvas, strict=True))
    rows, columns = ((*range(0, side - k, s), side - k) for side, k, s in zip(canvas, size, stride, strict=True))
    return Tiles(size, rows, columns)


def border_weights(size: tuple[int, int], clip: Clip = CLIP) -> np.ndarray:
    """Distances to the nearest border as shares of the side, limited to `clip`: (h, w) float32."""
    places = [np.arange(side, dtype=np.float32) / np.float32(max(side - 1, 1)) for side in size]
    vertical, horizontal = (np.minimum(place, 1 - place) for place in places)
    return np.clip(np.minimum(vertical[:, None], horizontal[None]), *clip)


def apply_tiled(
    function: Callable[[Any], Any],
    images: Any,
    kernel: Size,
    stride: Size,
    *,
    scale: Fraction | int = 1,
    clip: Clip = CLIP,
    tie_clip: Clip | None = None,
    max_tiles: int = 1,
) -> Any:
    """What a function says of the tiles of images, put together; no more than its result grows with the images.

    Args:
      function: of arrays (B k, h, w, C), k tiles of each image one after the other, to (B k, h scale, w scale, C').
      images: (B, H, W, C), or a pytree of such; what the function takes and gives may be pytrees as well.
      kernel, stride: as in `lay_tiles`, in pixels of `images`.
      scale: f of a decoder, Fraction(1, f) of an encoder.
      clip: of the weights of pixels in their tile.
      tie_clip: of the weights of tiles on the canvas (the official tie breaker); None: they have none.
      max_tiles: how many of an image are computed at once.

    Returns:
      (B, H scale, W scale, C') float32, from a canvas of one tile just what the function gives.

    Raises:
      UserError: tiles that do not fit, see `lay_tiles` and `Tiles.scaled`.
    """
    batch, *canvas = jax.tree.leaves(images)[0].shape[:3]
    tiles = lay_tiles(tuple(canvas), kernel, stride)
    goals = tiles.scaled(scale)
    num = len(tiles.starts)
    if num == 1:
        return jax.tree.map(lambda x: x.astype(jnp.float32), function(images))
    parts = -(-num // max_tiles)
    count = -(-num // parts)

    def advance(sums: Any, part: tuple[Array, Array, Array]) -> tuple[Any, None]:
        starts, ends, weights = part
        made = function(jax.tree.map(lambda x: _cut(x, starts, tiles.size), images))
        made = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(batch, count, *x.shape[1:]), 1, 0), made)
        inside = weights[:, None, None, None, None] * border_weights(goals.size, clip)[None, None, :, :, None]
        weighted = jax.tree.map(lambda x: x.astype(jnp.float32) * inside, made), inside
        return jax.lax.scan(_add, sums, (weighted, ends))

    # The last part is filled up with the first tiles, which count for nothing then.
    rows = np.stack([np.resize(x, (parts * count, 2)) for x in (tiles.starts, goals.starts)])
    weights = np.append(tiles.weights(tie_clip), np.zeros(parts * count - num, np.float32))
    steps = jax.tree.map(lambda x: jnp.asarray(x).reshape(parts, count, *x.shape[1:]), (*rows, weights))
    tile = jax.eval_shape(function, jax.tree.map(lambda x: _cut(x, steps[0][0], tiles.size), images))
    size = tuple(int(side * Fraction(scale)) for side in canvas)
    zeros = jax.tree.map(lambda x: jnp.zeros((batch, *size, x.shape[-1]), jnp.float32), tile)
    (totals, weight), _ = jax.lax.scan(advance, (zeros, jnp.zeros((1, *size, 1), jnp.float32)), steps)
    return jax.tree.map(lambda total: total / weight, totals)


def _cut(x: Array, starts: Array, size: tuple[int, int]) -> Array:
    """The tiles (B k, h, w, C) of images (B, H, W, C) that begin at `starts` (k, 2), those of an image together."""

    def one(start: Array) -> Array:
        return jax.lax.dynamic_slice(x, (0, start[0], start[1], 0), (len(x), *size, x.shape[-1]))

    tiles = jax.vmap(one, out_axes=1)(starts)
    return tiles.reshape(-1, *tiles.shape[2:])


def _add(sums: Any, tile: tuple[Any, Array]) -> tuple[Any, None]:
    """Adds arrays (B, h, w, C) to where they belong in others (B, H, W, C)."""
    values, start = tile

    def added(total: Array, value: Array) -> Array:
        corner = (0, start[0], start[1], 0)
        old = jax.lax.dynamic_slice(total, corner, value.shape)
        return jax.lax.dynamic_update_slice(total, old + value, corner)

    return jax.tree.map(added, sums, values), None


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)
