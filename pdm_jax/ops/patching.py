"""Pixels moved to channels and back (PDM section 3)."""

from einops import rearrange

from pdm_jax.types import Array


def patchify(x: Array, patch_size: int) -> Array:
    """Cuts an image into P x P patches, each a vector of pixels.

    Channel (dy * P + dx) * C + c of a patch is colour c of its pixel in row dy and column dx.

    Args:
      x: (B, H, W, C), H and W divisible by P.
      patch_size: P.

    Returns:
      (B, H / P, W / P, P * P * C).
    """
    return rearrange(x, "b (h p) (w q) c -> b h w (p q c)", p=patch_size, q=patch_size)


def unpatchify(x: Array, patch_size: int) -> Array:
    """The exact inverse of `patchify`: (B, h, w, P * P * C) to (B, h * P, w * P, C)."""
    return rearrange(x, "b h w (p q c) -> b (h p) (w q) c", p=patch_size, q=patch_size)
