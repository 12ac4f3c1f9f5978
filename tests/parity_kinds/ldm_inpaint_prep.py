"""LDM's inpainting: what the network is told of an image and its mask, and the picture that is shown in the end."""

from __future__ import annotations

import numpy as np

from pdm_jax.ops import inpainting
from tests.parity_kinds._case import Case

INPUTS = ("image_uint8_hwc", "mask_uint8_hw", "masked_image_latent_stand_in", "predicted_image")


def run(case: Case) -> dict[str, np.ndarray]:
    """All of the case's outputs, in its layout (NCHW, but for the pictures)."""
    # Pictures are truncated, so numbers are made in the program's order, and in NumPy: XLA divides less exactly.
    image = case.io["image_uint8_hwc"][None].astype(np.float32) / 255 * 2 - 1
    mask = (case.io["mask_uint8_hw"] >= 128)[None, ..., None].astype(np.float32)
    latent, prediction = (
        np.moveaxis(case.io[name], 1, -1) for name in ("masked_image_latent_stand_in", "predicted_image")
    )
    told = np.asarray(inpainting.beside(latent, mask))
    shown = inpainting.fill(_to_unit(image), mask, _to_unit(prediction))
    out = {
        "image": image,
        "mask": 2 * mask - 1,
        "masked_image": inpainting.hide(image, mask),
        "mask_latent": told[..., -1:],
        "cond": told,
    }
    nchw = {name: np.moveaxis(array, -1, 1) for name, array in out.items()}
    return nchw | {"composite_uint8_hwc": (shown[0] * 255).astype(np.uint8)}


def _to_unit(x: np.ndarray) -> np.ndarray:
    return np.clip((x + 1) / 2, 0, 1)
