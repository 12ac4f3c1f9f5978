"""The arguments of latent-diffusion's `UNetModel` (`unet_config.params` of its configs) in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdm_jax.errors import UserError

_NEEDED = ("in_channels", "model_channels", "out_channels", "num_res_blocks", "attention_resolutions")
_DEFAULTS = {
    "channel_mult": (1, 2, 4, 8),
    "num_classes": None,
    "num_heads": -1,
    "num_head_channels": -1,
    "use_scale_shift_norm": False,
    "resblock_updown": False,
    "use_new_attention_order": False,
    "use_spatial_transformer": False,
    "transformer_depth": 1,
    "context_dim": None,
}
_FIXED = {"dims": 2, "conv_resample": True, "num_heads_upsample": -1, "n_embed": None}  # as in all released networks
_WITHOUT_WEIGHTS = ("image_size", "dropout", "use_checkpoint", "use_fp16", "legacy")  # and without effect on the output


def translate(official: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `LDMUNet` (all but `use_remat`, `dtype` and `rngs`).

    Attention, listed there by factors of downsampling, is placed by level.

    Args:
      official: the arguments of `UNetModel`, those with defaults where they differ from them.

    Raises:
      UserError: an argument is missing, unknown or has a value that cannot be built.
    """
    _check(official)
    config = {**_DEFAULTS, **official}
    depth = len(config["channel_mult"])
    return {
        "channels": config["out_channels"],
        "in_channels": config["in_channels"],
        "width": config["model_channels"],
        "channel_mult": tuple(config["channel_mult"]),
        "num_blocks": config["num_res_blocks"],
        "attn_levels": tuple(level for level in range(depth) if 2**level in config["attention_resolutions"]),
        "num_classes": config["num_classes"] or 0,
        "has_null": False,
        "context_dim": _context_dim(config),
        "transformer_depth": config["transformer_depth"],
        "use_scale_shift_norm": config["use_scale_shift_norm"],
        "resblock_updown": config["resblock_updown"],
        "attention_order": "new" if config["use_new_attention_order"] else "legacy",
        **_heads(config),
    }


def _check(official: Mapping[str, Any]) -> None:
    if missing := [key for key in _NEEDED if key not in official]:
        raise UserError(f"the official config lacks {', '.join(missing)}; it needs {', '.join(_NEEDED)}")
    known = (*_NEEDED, *_DEFAULTS, *_FIXED, *_WITHOUT_WEIGHTS)
    if unknown := [key for key in official if key not in known]:
        raise UserError(f"the official config has unknown keys {', '.join(unknown)}; known are {', '.join(known)}")
    for key, value in _FIXED.items():
        if official.get(key, value) != value:
            raise UserError(f"the official config has {key} {official[key]}; only {value} can be built")


def _heads(config: Mapping[str, Any]) -> dict[str, int]:
    if config["num_head_channels"] != -1:
        return {"head_dim": config["num_head_channels"]}
    if config["num_heads"] == -1:
        raise UserError("the official config has neither num_heads nor num_head_channels; it needs one of them")
    return {"num_heads": config["num_heads"]}


def _context_dim(config: Mapping[str, Any]) -> int | None:
    dims = config["context_dim"]
    if config["use_spatial_transformer"] != (dims is not None):
        raise UserError(
            f"the official config has use_spatial_transformer {config['use_spatial_transformer']} and context_dim "
            f"{dims}; the one needs the other"
        )
    return dims if dims is None or isinstance(dims, int) else _only(dims)


def _only(dims: Any) -> int:
    """The one entry of a list, as some configs write it."""
    if len(dims) != 1:
        raise UserError(f"the official config has context_dim {list(dims)}; only one number can be built")
    return dims[0]
