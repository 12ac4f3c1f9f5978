"""What images were told, as pictures beside them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pdm_jax.config import Config
from pdm_jax.data.layout_pictures import color_of, draw_layout
from pdm_jax.data.sources.opening import open_source
from pdm_jax.errors import UserError
from pdm_jax.systems.conditions import task_inputs

_GREY = 128  # of holes
_SHOWN = ("layout", "map", "low", "mask")


def check_shown(told: Mapping[str, object]) -> None:
    """Raises a `UserError` if nothing that a model is told can be shown."""
    if not set(_SHOWN) & set(told):
        raise UserError("--compare shows layouts, maps, small images and holes; this model is told of none of them")


def beside_told(told: Mapping[str, np.ndarray], images: np.ndarray, config: Config, source: str) -> np.ndarray:
    """Each of images (N, H, W, C) uint8 with what it was told to its left, (N, H, k W, 3) uint8.

    Args:
      told: of each image, arrays (N, ...).
      source: the data it is of, which knows the names of objects.
    """
    size, parts = images.shape[1:3], []
    if "layout" in told:
        names = open_source(source, config.data.split, ("layout",)).object_names
        codec = task_inputs(config).layout_codec(names)
        parts.append(np.stack([draw_layout(codec.decode(row)[0], size, names) for row in told["layout"]]))
    if "map" in told:
        parts.append(_palette()[told["map"]])
    if "low" in told:
        factor = size[0] // told["low"].shape[1]
        parts.append(told["low"].repeat(factor, axis=1).repeat(factor, axis=2))
    if "mask" in told:
        parts.append(np.where(told["mask"] == 1, np.uint8(_GREY), told["image"]))
    return np.concatenate([np.broadcast_to(part, (*part.shape[:3], 3)) for part in (*parts, images)], axis=2)


def _palette() -> np.ndarray:
    """Colours (256, 3) uint8 of classes; 0 is black."""
    return np.array([(0, 0, 0), *map(color_of, range(1, 256))], np.uint8)
