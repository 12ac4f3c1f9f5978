"""Patches of an image at half-patch offsets, and the collage of their features (Patch-DM section 4).

An image of n x m patches, padded by half a patch on every side, is cut into (n + 1) x (m + 1) patches. Four of them
meet in the middle of each aligned patch of the image: their features are cut and joined into that patch's.
"""

from __future__ import annotations

import jax.numpy as jnp
from einops import rearrange

from pdm_jax.errors import UserError
from pdm_jax.types import Array


def pad_half(x: Array, patch_size: int) -> Array:
    """x (B, H, W, C) with half a patch of zeros on all four sides: (B, H + P, W + P, C)."""
    half = patch_size // 2
    return jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))


def cut(x: Array, patch_size: int) -> Array:
    """x (B, n * P, m * P, C) as patches (B, n, m, P, P, C)."""
    return rearrange(x, "b (n p) (m q) c -> b n m p q c", p=patch_size, q=patch_size)


def join(patches: Array) -> Array:
    """The inverse of `cut`: (B, n, m, P, P, C) to (B, n * P, m * P, C)."""
    return rearrange(patches, "b n m p q c -> b (n p) (m q) c")


def collage(features: Array) -> Array:
    """Features of the shifted patches, each of a quarter of four neighbours (Patch-DM, figure 3).

    Args:
      features: (B, n + 1, m + 1, s, s, C) of the patches at half-patch offsets; s is even.

    Returns:
      (B, n, m, s, s, C): the maps laid side by side, half a map cut off all around, and cut again.
    """
    half = features.shape[3] // 2
    bottom, top = features[:, :, :, half:], features[:, :, :, :half]
    rows = jnp.concatenate([bottom[:, :-1], top[:, 1:]], axis=3)  # (B, n, m + 1, s, s, C)
    right, left = rows[:, :, :, :, half:], rows[:, :, :, :, :half]
    return jnp.concatenate([right[:, :, :-1], left[:, :, 1:]], axis=4)


def shifted_positions(position: Array) -> Array:
    """Positions (B, n, m, 3) of the shifted patches from (B, n + 1, m + 1, 3) of those around them.

    Row and column are the mean of the four; a shifted patch is told its position if all four are.
    """
    corners = jnp.stack([position[:, i : i - 1 or None, j : j - 1 or None] for i in (0, 1) for j in (0, 1)])
    return jnp.concatenate([corners[..., :2].mean(0), corners[..., 2:].min(0)], axis=-1)


def check_patches(size: tuple[int, int], patch_size: int, num_levels: int) -> None:
    """Raises a `UserError` unless an image (height, width) is whole patches that can be cut in half at every level."""
    deepest = 2 ** (num_levels - 1)
    if patch_size % (2 * deepest):
        raise UserError(
            f"a patch size of {patch_size} cannot be halved {num_levels - 1} times and then cut into quarters; "
            f"choose a multiple of {2 * deepest}, or fewer levels"
        )
    if any(side % patch_size or not side for side in size):
        up = [max(1, -(-side // patch_size)) * patch_size for side in size]
        raise UserError(
            f"an image of {size[0]}x{size[1]} is not a whole number of {patch_size}x{patch_size} patches; "
            f"choose such a size, or pad it to {up[0]}x{up[1]}"
        )
