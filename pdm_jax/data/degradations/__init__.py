"""Small spoilt copies of images, from which super-resolution learns to make the images again."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pdm_jax.data.degradations import operators
from pdm_jax.data.degradations.bsr import FULL, LIGHT, draw_steps
from pdm_jax.errors import UserError

_BSR = {"bsr": LIGHT, "bsr_full": FULL}
KINDS = ("bicubic", *_BSR)


def degrade(image: np.ndarray, factor: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """An image `factor` times smaller.

    Args:
      image: (H, W, C) uint8 of 1 or 3 channels.
      kind: "bicubic" (antialiased, as Pillow does it; nothing is drawn), "bsr" (that of LDM's released model: also
        blur, noise and JPEG, mild ones) or "bsr_full" (strong ones).
      rng: decides all of it.

    Returns:
      (H / factor, W / factor, C) uint8.

    Raises:
      UserError: there is no such kind, or a side is no multiple of the factor.
    """
    height, width, _ = image.shape
    if kind not in KINDS:
        raise UserError(f"images cannot be degraded by {kind!r}; choose {', '.join(KINDS)}")
    if factor < 1 or height % factor or width % factor:
        raise UserError(
            f"an image of {height}x{width} pixels cannot become {factor} times smaller; "
            f"its sides must be multiples of {factor}: choose another image size or factor"
        )
    if kind == "bicubic":
        return _bicubic(image, factor)
    low = operators.to_float(image)
    for step in draw_steps(image.shape, factor, _BSR[kind], rng):
        low = step(low)
    return operators.to_uint8(low)


def _bicubic(image: np.ndarray, factor: int) -> np.ndarray:
    height, width, channels = image.shape
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    picture = picture.resize((width // factor, height // factor), Image.Resampling.BICUBIC)
    return np.asarray(picture).reshape(height // factor, width // factor, channels)
