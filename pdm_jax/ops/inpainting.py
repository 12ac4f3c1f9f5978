"""What a network is told of an image with a hole (LDM's inpainting program), and how the result is put together.

Masks are (..., H, W, 1) of any type, 1 where the image is to be filled in and 0 where it is kept.
`hide` and `fill` leave NumPy arrays NumPy's.
"""

from __future__ import annotations

import jax.numpy as jnp

from pdm_jax.types import Array


def hide(image: Array, mask: Array) -> Array:
    """An image (..., H, W, C) in [-1, 1], black (-1) in the hole: what the first stage encodes of it."""
    mask = mask.astype(image.dtype)
    return (1 - mask) * image - mask


def shrink(mask: Array, size: tuple[int, int]) -> Array:
    """A mask at another size (height, width): that of the nearest pixel up and left, as PyTorch's nearest does it."""
    rows, columns = (jnp.arange(new) * old // new for new, old in zip(size, mask.shape[-3:-1], strict=True))
    return mask[..., rows, :, :][..., columns, :]


def beside(latent: Array, mask: Array) -> Array:
    """What lies beside z_t: the unscaled latent (..., h, w, C) of the hidden image, then the mask in {-1, 1}.

    Args:
      mask: of the image's size.

    Returns:
      (..., h, w, C + 1) of the latent's type.
    """
    small = shrink(mask, latent.shape[-3:-1]).astype(latent.dtype)
    return jnp.concatenate([latent, 2 * small - 1], axis=-1)


def fill(image: Array, mask: Array, prediction: Array) -> Array:
    """The image (..., H, W, C) where it is kept, and the prediction in the hole."""
    mask = mask.astype(image.dtype)
    return (1 - mask) * image + mask * prediction
