"""Space as patches whose features are cut and joined between encoder and decoder (Patch-DM section 4)."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from pdm_jax.denoisers.bind import Network
from pdm_jax.denoisers.rows import over_devices
from pdm_jax.errors import UserError
from pdm_jax.ops.collage import check_patches, collage, cut, join, shifted_positions
from pdm_jax.types import Array, Cond


class EncoderDecoder(Protocol):
    """A network with skips that `collaged` can take apart: its features are a tree of maps (B, s, s, C)."""

    num_levels: int  # the deepest maps are 2 ** (num_levels - 1) times smaller than a patch

    def encode(self, z_t: Array, t: Array, cond: Cond) -> Any: ...

    def decode(self, features: Any, t: Array, cond: Cond) -> tuple[Array, Array | None]: ...


def collaged(network: EncoderDecoder, patch_size: int, *, max_patches: int | None = None) -> Network:
    """A network over images (B, n * P, m * P, C) from one over patches (B, P, P, C).

    The image is padded with half a patch of zeros and cut into (n + 1)(m + 1) patches, which are encoded by
    themselves; each of the n m decoded patches takes the middle output and every skip from four of them.

    Conditions of the image (label, code, context) are those of each patch. `Cond.position` (B, n + 1, m + 1, 3)
    belongs to the encoded patches; decoded ones get the mean of four. `concat` and `mask` are padded and cut as the
    image and enter the encoder. Over a mesh with `space`, each device has whole rows of patches.

    Args:
      network: for patches; bound to its parameters.
      patch_size: P.
      max_patches: on each device, encodes and decodes at most so many at once (but decodes one of each image at least),
        row by row. Features of two rows of patches are kept, so that memory grows with the width of the image only; no
        patch is encoded twice. None: all at once.

    Raises:
      UserError: the network cannot be taken apart, or, when called, the image is not whole patches.
    """
    if missing := [name for name in ("encode", "decode", "num_levels") if not hasattr(network, name)]:
        raise UserError(
            f"{type(network).__name__} has no {missing[0]}: collage needs a network whose encoder hands features to "
            "its decoder; choose patch_unet, adm_unet or pdm_unet"
        )

    def run(z_t: Array, t: Array, cond: Cond) -> tuple[Array, Array | None]:
        check_patches(z_t.shape[1:3], patch_size, network.num_levels)
        _check_position(cond, z_t.shape[1] // patch_size + 1, z_t.shape[2] // patch_size + 1)
        local = functools.partial(_collage, patch_size=patch_size, max_patches=max_patches)
        return over_devices(local, network, patch_size, z_t, t, cond)

    return run


def _collage(
    network: EncoderDecoder, z: Array, t: Array, cond: Cond, *, patch_size: int, max_patches: int | None
) -> tuple[Array, Array | None]:
    """The output (B, n P, m P, C) of a padded z (B, (n + 1) P, (m + 1) P, C); `concat` and `mask` are padded too."""
    canvas = _Canvas(network, z, t, cond, patch_size, max_patches)
    batch, n, m = len(z), z.shape[1] // patch_size - 1, z.shape[2] // patch_size - 1
    if max_patches is None or batch * (n + 1) * (m + 1) <= max_patches:
        return canvas.decode(canvas.encode(0, n + 1), 0)
    rows = max(k for k in range(1, n + 1) if n % k == 0 and (k == 1 or batch * k * (m + 1) <= max_patches))

    def advance(last: Any, i: Array) -> tuple[Any, Any]:
        """Encodes the next rows and decodes those that lie between them and the last one before."""
        new = canvas.encode(1 + i * rows, rows)
        features = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), last, new)
        return jax.tree.map(lambda x: x[:, -1:], new), canvas.decode(features, i * rows)

    _, outputs = jax.lax.scan(advance, canvas.encode(0, 1), jnp.arange(n // rows))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(batch, -1, *x.shape[3:]), outputs)


@dataclasses.dataclass(frozen=True)
class _Canvas:
    """A padded image and its conditions, of which rows of patches are encoded and decoded."""

    network: EncoderDecoder
    z: Array
    t: Array
    cond: Cond
    patch_size: int
    max_patches: int | None

    def encode(self, row: int | Array, count: int) -> Any:
        """Features (B, count, m + 1, s, s, C) of the patches of `count` rows from `row` on."""

        def rows(x: Array | None) -> Array | None:
            if x is None:
                return None
            height = count * self.patch_size
            return cut(jax.lax.dynamic_slice_in_dim(x, row * self.patch_size, height, axis=1), self.patch_size)

        patches, position = rows(self.z), self.cond.position
        if position is not None:
            position = jax.lax.dynamic_slice_in_dim(position, row, count, axis=1)
        cond = dataclasses.replace(
            self._everywhere(patches.shape[1:3]),
            position=position,
            concat=rows(self.cond.concat),
            mask=rows(self.cond.mask),
        )
        return self._mapped(self.network.encode, patches, cond)

    def decode(self, features: Any, row: int | Array) -> tuple[Array, Array | None]:
        """The output (B, k P, m P, C) of k rows from `row` on, of features (B, k + 1, m + 1, s, s, C)."""
        batch, count, columns = jax.tree.leaves(features)[0].shape[:3]
        count, columns = count - 1, columns - 1
        position = None if self.cond.position is None else shifted_positions(self.cond.position)
        if position is not None:
            position = jax.lax.dynamic_slice_in_dim(position, row, count, axis=1)
        width = columns if self.max_patches is None else min(columns, max(1, self.max_patches // (batch * count)))

        def block(start: Array | int) -> tuple[Array, Array | None]:
            def take(x: Array, width: int) -> Array:
                return jax.lax.dynamic_slice_in_dim(x, start, width, axis=2)

            own = jax.tree.map(lambda x: collage(take(x, width + 1)), features)
            where = None if position is None else take(position, width)
            cond = dataclasses.replace(self._everywhere((count, width)), position=where)
            return jax.tree.map(join, self._called(self.network.decode, own, cond))

        if width == columns:
            return block(0)
        # The last block ends with the image; what it has in common with the one before is decoded twice.
        width = -(-columns // -(-columns // width))
        starts = jnp.arange(0, columns, width)
        outputs = jax.lax.map(block, jnp.minimum(starts, columns - width))
        rest = (columns - width * (len(starts) - 1)) * self.patch_size

        def side_by_side(x: Array) -> Array:
            first = jnp.moveaxis(x[:-1], 0, 2).reshape(*x.shape[1:3], -1, x.shape[-1])
            return jnp.concatenate([first, x[-1, :, :, -rest:]], axis=2)

        return jax.tree.map(side_by_side, outputs)

    def _everywhere(self, grid: tuple[int, int]) -> Cond:
        """What conditions the image, once a patch of a grid: fields (B, n, m, ...)."""

        def spread(x: Array | None) -> Array | None:
            return None if x is None else jnp.broadcast_to(x[:, None, None], (len(x), *grid, *x.shape[1:]))

        return Cond(label=spread(self.cond.label), code=spread(self.cond.code), context=spread(self.cond.context))

    def _called(self, function: Any, inputs: Any, cond: Cond) -> Any:
        """The function, of a batch of patches, of inputs and conditions (B, n, m, ...)."""
        lead = jax.tree.leaves(inputs)[0].shape[:3]
        t = self.t if len(self.t) == 1 else jnp.broadcast_to(self.t[:, None, None], lead).reshape(-1)
        flat, cond = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), (inputs, cond))
        return jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), function(flat, t, cond))

    def _mapped(self, function: Any, inputs: Array, cond: Cond) -> Any:
        """As `_called`, in equal parts of at most `max_patches` patches, the last filled up with the first ones."""
        lead = inputs.shape[:3]
        num = math.prod(lead)
        if self.max_patches is None or num <= self.max_patches:
            return self._called(function, inputs, cond)
        parts = -(-num // self.max_patches)
        size = -(-num // parts)
        t = jnp.broadcast_to(self.t[:, None, None], lead)

        def split(x: Array) -> Array:
            flat = x.reshape(-1, *x.shape[3:])
            return jnp.concatenate([flat, flat[: parts * size - num]]).reshape(parts, size, *flat.shape[1:])

        outputs = jax.lax.map(lambda part: function(*part), jax.tree.map(split, (inputs, t, cond)))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num].reshape(*lead, *x.shape[2:]), outputs)


def _check_position(cond: Cond, rows: int, columns: int) -> None:
    if cond.position is not None and cond.position.shape[1:] != (rows, columns, 3):
        got = "x".join(map(str, cond.position.shape[1:]))
        raise UserError(f"positions are {got}; an image of this size has {rows}x{columns}x3 encoded patches")
