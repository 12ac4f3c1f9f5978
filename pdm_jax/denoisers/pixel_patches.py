"""Patches denoised by themselves, the simpler ways that Patch-DM is compared with (its section 6 and figure 2).

Nothing crosses the border of a patch within a step. Without shifts images fall into patches; patches that are cut
elsewhere at each step meet their neighbours over many steps, but in pixels only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.denoisers.patched import check_divisible
from pdm_jax.errors import UserError
from pdm_jax.ops.collage import cut, join, shifted_positions
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step

_Map = Callable[[Array], Array]


def independent(denoiser: Denoiser, patch_size: int) -> Denoiser:
    """A denoiser of images (B, n * P, m * P, C) from one of patches (B, P, P, C): each aligned patch by itself.

    Conditions of the image (label, code, context) are those of each patch; what lies over the image is cut as it is.
    `Cond.position` is that of `collaged`, (B, n + 1, m + 1, 3) of patches at half-patch offsets; a patch gets the
    mean of the four around it, and is told its position if all of them are.
    """

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        check_divisible(z_t.shape[1:3], patch_size)
        position = None if cond.position is None else shifted_positions(cond.position)
        return _on_patches(denoiser, patch_size, z_t, step, dataclasses.replace(cond, position=position))

    return denoise


def half_shifted(denoiser: Denoiser, patch_size: int) -> Denoiser:
    """As `independent`, but at every second step patches are cut half a patch off ("pixel space fixed shift").

    Aligned at the first step of sampling, the third, and so on. Shifted patches hang over the border, where the image
    is padded with zeros.

    Raises:
      UserError: when called outside of sampling, where steps have no number.
    """
    aligned = independent(denoiser, patch_size)

    def shifted(z_t: Array, step: Step, cond: Cond) -> Prediction:
        return _shifted(denoiser, patch_size, (patch_size // 2,) * 2, z_t, step, cond)

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        check_divisible(z_t.shape[1:3], patch_size)
        if step.index is None:
            raise UserError("patches that shift from step to step are for sampling; train on patches from anywhere")
        return jax.lax.cond(step.index % 2 == 0, aligned, shifted, z_t, step, cond)

    return denoise


def randomly_shifted(denoiser: Denoiser, patch_size: int) -> Denoiser:
    """As `independent`, but at each step patches are cut off by a random part of a patch ("pixel space random shift").

    Rows and columns are shifted by integers uniform in [0, P), drawn once a step for all images.

    Raises:
      UserError: when called without `Step.key`.
    """

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        check_divisible(z_t.shape[1:3], patch_size)
        if step.key is None:
            raise UserError("random shifts need a key a step; give `sample` a step_key")
        shift = jax.random.randint(rng.stream(step.key, "shift"), (2,), 0, patch_size)
        return _shifted(denoiser, patch_size, (shift[0], shift[1]), z_t, step, cond)

    return denoise


def _shifted(
    denoiser: Denoiser, patch_size: int, shift: tuple[Array | int, Array | int], z_t: Array, step: Step, cond: Cond
) -> Prediction:
    """Patches whose borders lie `shift` pixels (rows, columns) after those of the aligned ones; traced or not."""
    height, width = z_t.shape[1:3]

    def moved(x: Array) -> Array:
        padded = jnp.pad(x, ((0, 0), (patch_size,) * 2, (patch_size,) * 2, (0, 0)))
        size = (len(x), height + patch_size, width + patch_size, x.shape[-1])
        return jax.lax.dynamic_slice(padded, (0, *shift, 0), size)

    def moved_back(x: Array) -> Array:
        back = [patch_size - part for part in shift]
        return jax.lax.dynamic_slice(x, (0, *back, 0), (len(x), height, width, x.shape[-1]))

    step = dataclasses.replace(step, previous=jax.tree.map(moved, step.previous))
    position = None if cond.position is None else positions_between(cond.position, shift, patch_size)
    over_image = {name: x if (x := getattr(cond, name)) is None else moved(x) for name in ("concat", "mask")}
    cond = dataclasses.replace(cond, position=position, **over_image)
    return jax.tree.map(moved_back, _on_patches(denoiser, patch_size, moved(z_t), step, cond))


def positions_between(position: Array, shift: tuple[Array | int, Array | int], patch_size: int) -> Array:
    """Positions of patches that are cut `shift` pixels (rows, columns) after the aligned ones.

    Args:
      position: (B, n + 1, m + 1, 3) of patches at half-patch offsets, which is a shift of half a patch.
      shift: each in [0, P).

    Returns:
      (B, n + 1, m + 1, 3): row and column on the straight line through the two nearest; known where both are, or the
      one if a patch lies exactly there.
    """
    for axis, part in zip((1, 2), shift, strict=True):
        last = position.shape[axis] - 1
        place = jnp.arange(last + 1) + (jnp.asarray(part, jnp.float32) / patch_size - 0.5)  # of the patch in the grid
        below = jnp.clip(jnp.floor(place), 0, last - 1).astype(jnp.int32)
        weight = (place - below).reshape(-1, *[1] * (3 - axis))[None]
        if axis == 2:
            weight = weight[None]
        first, second = jnp.take(position, below, axis), jnp.take(position, below + 1, axis)
        between = first[..., :2] * (1 - weight) + second[..., :2] * weight
        known = jnp.where(weight < 1, first[..., 2:], 1) * jnp.where(weight > 0, second[..., 2:], 1)
        position = jnp.concatenate([between, known], axis=-1)
    return position


def _on_patches(denoiser: Denoiser, patch_size: int, z_t: Array, step: Step, cond: Cond) -> Prediction:
    """The denoiser on all patches in one batch; `cond.position` (B, gh, gw, 3) is theirs."""
    rows, columns = z_t.shape[1] // patch_size, z_t.shape[2] // patch_size

    def cut_flat(x: Array) -> Array:
        return cut(x, patch_size).reshape(-1, patch_size, patch_size, x.shape[-1])

    def joined(x: Array) -> Array:
        return join(x.reshape(-1, rows, columns, *x.shape[1:]))

    def spread(x: Array) -> Array:
        return jnp.repeat(x, rows * columns, axis=0)
    return z_t
