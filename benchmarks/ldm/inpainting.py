"""How well holes are filled, by the share of the image that they cover (table 7)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from paper.pictures import sheet
from report import Row

from ldm.lab import SEED, Lab
from ldm.scales import diffusion_config
from pdm_jax.data.masks import draw_mask
from pdm_jax.evaluation.extraction import Extractor
from pdm_jax.evaluation.local_features import local_perceptual
from pdm_jax.ops.inpainting import fill

_FACTOR = 4
_SHARES = {"40-50 % masked": (0.4, 0.5), "all": None}  # the table's columns
_TEST, _TRAIN = "thick", "mixed"  # kinds of masks
_SHOWN = 8  # images in the picture


def run(lab: Lab, out: Path) -> list[Row]:
    """Held-out images with holes filled by LDM-4, and by the mean colour around the hole, which is the least to beat.

    `distance` is the Fréchet distance to the training set, `perceptual` that of each image to its original (the
    place of LPIPS; local features), with the deviation over images, `masked` the mean share of the holes.
    """
    generator = np.random.default_rng(SEED)
    masks = _masks(len(lab.images), lab.scale.image_size, generator, _TRAIN, None)
    model = lab.latent_model("ldm_inpainting", diffusion_config(lab.scale, _FACTOR, mask=True), _FACTOR, masks=masks)
    rows, shown = [], {}
    for column, share in _SHARES.items():
        holes = _masks(len(lab.held_out), lab.scale.image_size, generator, _TEST, share)
        told = {"image": lab.held_out, "mask": holes}
        made, _ = lab.draw(model, lab.scale.sampling_steps[-1], len(holes), told=told)
        filled = {"LDM-4": fill(lab.held_out, holes, made), "mean colour": mean_filled(lab.held_out, holes)}
        rows += [_row(lab, column, name, images, holes) for name, images in filled.items()]
        shown |= {f"{column}: hole": fill(lab.held_out, holes, np.full_like(made, 128)), column: filled["LDM-4"]}
    shown["original"] = lab.held_out
    pictures = {name: images[:_SHOWN] / 127.5 - 1 for name, images in shown.items()}
    sheet(out / "inpainting.png", f"Holes filled by LDM-4 ({lab.title})", pictures, [""] * _SHOWN)
    return rows


def mean_filled(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) uint8 whose holes, 1 in masks (N, H, W, 1), have the mean colour of the rest."""
    known = 1 - masks.astype(np.float64)
    mean = (images * known).sum((1, 2), keepdims=True) / known.sum((1, 2), keepdims=True)
    return fill(images, masks, np.broadcast_to(np.round(mean), images.shape).astype(np.uint8))


def _masks(num: int, size: int, generator: np.random.Generator, kind: str, share: tuple | None) -> np.ndarray:
    return np.stack([draw_mask((size, size), generator, kind, share) for _ in range(num)])


def _row(lab: Lab, column: str, name: str, images: np.ndarray, masks: np.ndarray) -> Row:
    extractor = Extractor(local_perceptual(lab.network), 32)
    perceptual = np.concatenate(list(extractor(zip(*_batches(images, lab.held_out), strict=True))))
    return {
        "column": column,
        "filled by": name,
        "masked": float(masks.mean()),
        "distance": lab.distance(images),
        "perceptual": float(perceptual.mean()),
        "deviation": float(perceptual.std()),
    }


def _batches(*arrays: np.ndarray) -> list[list[np.ndarray]]:
    return [np.split(array, range(32, len(array), 32)) for array in arrays]
