"""The TensorFlow program's config of a PDM network in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdm_jax.denoisers.patched import check_divisible
from pdm_jax.errors import UserError

_KEYS = ("image_resolution", "c", "num_res_blocks", "attn_resos", "c_mult", "num_classes", "patchsize", "se")
_INACTIVE = ("droprate",)  # that program never trains with dropout on, and its layers have no weights


def translate(official: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Keyword arguments of `PDMUNet` (all but `dtype` and `rngs`) and the patch size P.

    Attention, listed there by resolution after patching, is placed by level; one class or none is unconditional.

    Args:
      official: image_resolution, c (base width), num_res_blocks (one number or one a level, finest first),
        attn_resos, c_mult, num_classes, patchsize, se (whether classes gate the blocks) and perhaps droprate.

    Raises:
      UserError: a key is missing or unknown, or the patches do not tile the image.
    """
    if missing := [key for key in _KEYS if key not in official]:
        raise UserError(f"the official config lacks {', '.join(missing)}; it needs {', '.join(_KEYS)}")
    if unknown := [key for key in official if key not in _KEYS + _INACTIVE]:
        raise UserError(f"the official config has unknown keys {', '.join(unknown)}; known are {', '.join(_KEYS)}")
    patch_size, resolution = official["patchsize"], official["image_resolution"]
    check_divisible((resolution, resolution), patch_size)
    blocks = official["num_res_blocks"]
    num_levels = len(official["c_mult"])
    grids = [resolution // patch_size // 2**level for level in range(num_levels)]
    num_classes = official["num_classes"] if official["num_classes"] > 1 else 0
    network = {
        "channels": 3 * patch_size**2,
        "width": official["c"],
        "channel_mult": tuple(official["c_mult"]),
        "num_blocks": blocks if isinstance(blocks, int) else tuple(blocks),
        "attn_levels": tuple(level for level, grid in enumerate(grids) if grid in official["attn_resos"]),
        "num_classes": num_classes,
        "class_input": "gate" if official["se"] else "add",
    }
    return network, patch_size
