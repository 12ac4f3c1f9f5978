"""The arguments of guided-diffusion's `UNetModel` in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdm_jax.errors import UserError

_NEEDED = ("in_channels", "model_channels", "out_channels", "num_res_blocks", "attention_resolutions", "channel_mult")
_DEFAULTS = {
    "num_classes": None,
    "num_heads": 1,
    "num_head_channels": -1,
    "use_scale_shift_norm": False,
    "resblock_updown": False,
    "use_new_attention_order": False,
}
_FIXED = {"dims": 2, "conv_resample": True, "num_heads_upsample": -1}  # no released network has others
_WITHOUT_WEIGHTS = ("image_size", "dropout", "use_checkpoint", "use_fp16")  # and without effect on the output


def translate(official: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `ADMUNet` (all but `use_remat`, `dtype` and `rngs`).

    Attention, listed there by factors of downsampling, is placed by level.

    Args:
      official: the arguments of `UNetModel`, those with defaults where they differ from them.

    Raises:
      UserError: an argument is missing, unknown or has a value that no released network has.
    """
    if missing := [key for key in _NEEDED if key not in official]:
        raise UserError(f"the official config lacks {', '.join(missing)}; it needs {', '.join(_NEEDED)}")
    known = (*_NEEDED, *_DEFAULTS, *_FIXED, *_WITHOUT_WEIGHTS)
    if unknown := [key for key in official if key not in known]:
        raise UserError(f"the official config has unknown keys {', '.join(unknown)}; known are {', '.join(known)}")
    for key, value in _FIXED.items():
        if official.get(key, value) != value:
            raise UserError(f"the official config has {key} {official[key]}; only {value} can be built")
    channels, outputs = official["in_channels"], official["out_channels"]
    if outputs not in (channels, 2 * channels):
        raise UserError(
            f"the official config has {channels} in_channels and {outputs} out_channels; expected as many, or twice "
            "as many with a learned variance"
        )
    config = {**_DEFAULTS, **official}
    rates = [2**level for level in range(len(config["channel_mult"]))]
    heads = {"num_heads": config["num_heads"]}
    if config["num_head_channels"] != -1:
        heads = {"head_dim": config["num_head_channels"]}
    return {
        "channels": channels,
        "width": config["model_channels"],
        "channel_mult": tuple(config["channel_mult"]),
        "num_blocks": config["num_res_blocks"],
        "attn_levels": tuple(i for i, rate in enumerate(rates) if rate in config["attention_resolutions"]),
        "num_classes": config["num_classes"] or 0,
        "has_null": False,
        "learn_variance": outputs != channels,
        "use_scale_shift_norm": config["use_scale_shift_norm"],
        "resblock_updown": config["resblock_updown"],
        "attention_order": "new" if config["use_new_attention_order"] else "legacy",
        **heads,
    }
