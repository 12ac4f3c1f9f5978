"""Space as a grid of patches: pixels moved to channels around any denoiser (PDM section 3)."""

from __future__ import annotations

import dataclasses

import jax

from pdm_jax.errors import UserError
from pdm_jax.ops.patching import patchify, unpatchify
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step


def patched(denoiser: Denoiser, patch_size: int) -> Denoiser:
    """A denoiser of images (B, H, W, C) from one of patch grids (B, H / P, W / P, P * P * C).

    Everything that lies over the image goes through the same rearrangement: the state, the conditions `concat`
    and `mask`, and the previous prediction. `patch_size` 1 returns the denoiser itself.
    """
    if patch_size == 1:
        return denoiser

    def to_grid(x: Array | None) -> Array | None:
        return None if x is None else patchify(x, patch_size)

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        check_divisible(z_t.shape[1:3], patch_size)
        step = dataclasses.replace(step, previous=jax.tree.map(to_grid, step.previous))
        cond = dataclasses.replace(cond, concat=to_grid(cond.concat), mask=to_grid(cond.mask))
        prediction = denoiser(to_grid(z_t), step, cond)
        return jax.tree.map(lambda x: unpatchify(x, patch_size), prediction)

    return denoise


def check_divisible(size: tuple[int, int], patch_size: int) -> None:
    """Raises a `UserError` unless patches of `patch_size` tile an image of `size` (height, width)."""
    if size[0] % patch_size or size[1] % patch_size:
        raise UserError(
            f"an image of {size[0]}x{size[1]} cannot be cut into patches of {patch_size}x{patch_size}; "
            f"choose a size that is a multiple of {patch_size}, or another patch_size"
        )
