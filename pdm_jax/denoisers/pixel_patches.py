"""Patches denoised by themselves: the simpler ways that Patch-DM is compared with (its section 6 and figure 2).

Nothing crosses the border of a patch within a step. Patches that are cut elsewhere at each step meet their neighbours
over many steps, but in pixels only.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.denoisers.patched import check_divisible
from pdm_jax.errors import UserError
from pdm_jax.ops.collage import cut, join, shifted_positions
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step

Shift = tuple[int | Array, int | Array]  # of rows and columns in pixels, each in [0, P); may be traced


def independent(denoiser: Denoiser, patch_size: int) -> Denoiser:
    """A denoiser of images (B, n * P, m * P, C) from one of patches (B, P, P, C): each aligned patch by itself.

    Conditions of the image (label, code, context) are those of each patch; what lies over the image is cut with it.
    `Cond.position` is that of `collaged`, (B, n + 1, m + 1, 3) of patches at half-patch offsets; an aligned patch gets
    the mean of the four around it, and is told its position if all of them are.
    """

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        check_divisible(z_t.shape[1:3], patch_size)
        position = None if cond.position is None else shifted_positions(cond.position)
        return _each(denoiser, patch_size, z_t, step, dataclasses.replace(cond, position=position))

    return denoise


def half_shifted(denoiser: Denoiser, patch_size: int) -> Denoiser:
    """As `independent`, but at every second step patches are cut half a patch off ("pixel space fixed shift").

    They are aligned at the first step of sampling, the third, and so on. Shifted ones hang over the border of the
    image, which is padded with zeros.

    Raises:
      UserError: when called outside of sampling, where steps have no number.
    """
    aligned = independent(denoiser, patch_size)

    def shifted(z_t: Array, step: Step, cond: Cond) -> Prediction:
        return _shifted(denoiser, patch_size, (patch_size // 2,) * 2, z_t, step, cond)

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        check_divisible(z_t.shape[1:3], patch_size)
        if step.index is None:
            raise UserError("patches that move from step to step are for sampling; train on patches from anywhere")
        return jax.lax.cond(step.index % 2 == 0, aligned, shifted, z_t, step, cond)

    return denoise


def randomly_shifted(denoiser: Denoiser, patch_size: int) -> Denoiser:
    """As `independent`, but at each step patches are cut off by a random part of one ("pixel space random shift").

    Rows and columns move by integers uniform in [0, P), drawn once a step for all images.

    Raises:
      UserError: when called without `Step.key`.
    """

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        check_divisible(z_t.shape[1:3], patch_size)
        if step.key is None:
            raise UserError("random shifts need a key at every step; give `sample` a step_key")
        rows, columns = jax.random.randint(rng.stream(step.key, "shift"), (2,), 0, patch_size)
        return _shifted(denoiser, patch_size, (rows, columns), z_t, step, cond)

    return denoise


def moved_positions(position: Array, shift: Shift, patch_size: int) -> Array:
    """Positions of patches whose borders lie `shift` pixels after those of the aligned ones.

    Args:
      position: (B, n + 1, m + 1, 3) of patches at half-patch offsets, those that lie P / 2 after.
      shift: of rows and columns.
      patch_size: P.

    Returns:
      (B, n + 1, m + 1, 3): row and column on the line through the two nearest; known where both are, or where the one
      is that lies exactly there.
    """
    for axis, part in zip((1, 2), shift, strict=True):
        position = _along(position, jnp.asarray(part, jnp.float32) / patch_size - 0.5, axis)
    return position


def _along(position: Array, offset: Array, axis: int) -> Array:
    """Positions at the places k + offset of a grid's axis; beyond its ends the line goes on."""
    position = jnp.moveaxis(position, axis, 0)
    place = jnp.arange(len(position), dtype=jnp.float32) + offset
    below = jnp.clip(jnp.floor(place), 0, len(position) - 2)
    weight = (place - below)[:, None, None, None]
    first, second = (position[below.astype(jnp.int32) + i] for i in (0, 1))
    between = first[..., :2] + weight * (second - first)[..., :2]
    known = jnp.where(weight == 1, 1, first[..., 2:]) * jnp.where(weight == 0, 1, second[..., 2:])
    return jnp.moveaxis(jnp.concatenate([between, known], axis=-1), 0, axis)


def _shifted(denoiser: Denoiser, patch_size: int, shift: Shift, z_t: Array, step: Step, cond: Cond) -> Prediction:
    """The denoiser on patches whose borders lie `shift` pixels after those of the aligned ones."""
    height, width = z_t.shape[1:3]

    def window(x: Array, start: Shift, size: tuple[int, int]) -> Array:
        return jax.lax.dynamic_slice(x, (0, *start, 0), (len(x), *size, x.shape[-1]))

    def out(x: Array | None) -> Array | None:
        if x is None:
            return None
        padded = jnp.pad(x, ((0, 0), (patch_size,) * 2, (patch_size,) * 2, (0, 0)))
        return window(padded, shift, (height + patch_size, width + patch_size))

    def back(x: Array) -> Array:
        return window(x, (patch_size - shift[0], patch_size - shift[1]), (height, width))

    position = None if cond.position is None else moved_positions(cond.position, shift, patch_size)
    cond = dataclasses.replace(cond, position=position, concat=out(cond.concat), mask=out(cond.mask))
    step = dataclasses.replace(step, previous=jax.tree.map(out, step.previous))
    return jax.tree.map(back, _each(denoiser, patch_size, out(z_t), step, cond))


def _each(denoiser: Denoiser, patch_size: int, z_t: Array, step: Step, cond: Cond) -> Prediction:
    """The denoiser on all patches as one batch; `cond.position` (B, n, m, 3) is theirs."""
    rows, columns = z_t.shape[1] // patch_size, z_t.shape[2] // patch_size

    def pieces(x: Array | None) -> Array | None:
        return None if x is None else cut(x, patch_size).reshape(-1, patch_size, patch_size, x.shape[-1])

    def spread(x: Array | None) -> Array | None:
        return None if x is None else jnp.repeat(x, rows * columns, axis=0)

    cond = Cond(
        label=spread(cond.label),
        code=spread(cond.code),
        position=None if cond.position is None else cond.position.reshape(-1, 3),
        context=spread(cond.context),
        concat=pieces(cond.concat),
        mask=pieces(cond.mask),
    )
    t = spread(step.t) if jnp.ndim(step.t) else step.t
    step = dataclasses.replace(step, t=t, previous=jax.tree.map(pieces, step.previous))
    prediction = denoiser(pieces(z_t), step, cond)
    return jax.tree.map(lambda x: join(x.reshape(-1, rows, columns, *x.shape[1:])), prediction)
