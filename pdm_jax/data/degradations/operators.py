"""What spoils an image: pure functions of pixels (H, W, C) float32 in [0, 1] and of what was drawn for them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pdm_jax.data.degradations.resizing import resize_matlab, resize_opencv


def to_float(image: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [0, 1]."""
    return (image / 255.0).astype(np.float32)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """float in [0, 1] to the nearest uint8; what lies beyond is clipped."""
    return np.round(np.clip(image, 0, 1) * 255.0).astype(np.uint8)


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolves every channel with `kernel` (k, k); borders are mirrored, the outermost pixel once."""
    from scipy.ndimage import convolve

    return convolve(image, kernel[:, :, None], mode="mirror")


def blur_and_stride(image: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Blurs, then keeps every stride-th pixel from the first on."""
    return np.clip(blur(image, kernel)[::stride, ::stride], 0, 1)


def resize(image: np.ndarray, size: tuple[int, int], kind: str) -> np.ndarray:
    """Comes to `size` (height, width) by OpenCV's "linear", "cubic" or "area"."""
    return np.clip(resize_opencv(image, size, kind), 0, 1)


def halve(image: np.ndarray) -> np.ndarray:
    """Comes to half the size by Matlab's bicubic."""
    return np.clip(resize_matlab(image, 0.5), 0, 1)


def add(image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Adds noise (H, W, C) or (H, W, 1)."""
    return np.clip(image + noise.astype(np.float32), 0, 1)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """What is left of an image of 1 or 3 channels once it was a JPEG of `quality`, 1 to 95."""
    file = io.BytesIO()
    pixels = to_uint8(image)
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "JPEG", quality=quality)
    return to_float(np.asarray(Image.open(file)).reshape(image.shape))
