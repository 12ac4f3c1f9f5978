"""The official configs of Patch-DM's networks in our terms.

Attention stands there by resolution, counted down from a nominal size: always 64 in the U-Net, whatever its patches,
and in the encoder the size that its config names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdm_jax.errors import UserError

_NOMINAL_SIZE = 64
_CONVOLUTIONS = {  # ours to theirs, of both convolutional networks
    "channels": "in_channels",
    "width": "model_channels",
    "channel_mult": "channel_mult",
    "num_blocks": "num_res_blocks",
}
_FIXED = {  # what no released network has otherwise
    "unet": {"resblock_updown": True, "num_heads": 1, "resnet_two_cond": True},
    "encoder": {"resblock_updown": True, "num_heads": 1, "pool": "adaptivenonzero"},
    "latent": {
        "activation": "silu",
        "condition_bias": 1,
        "use_norm": True,
        "num_time_layers": 2,
        "last_act": "none",
    },
}
_NEEDED = {
    "unet": (*_CONVOLUTIONS.values(), "attention_resolutions", "embed_channels", "enc_out_channels"),
    "encoder": (*_CONVOLUTIONS.values(), "attention_resolutions", "image_size", "out_channels"),
    "latent": ("num_channels", "num_hid_channels", "num_layers", "skip_layers", "num_time_emb_channels"),
}


def translate(network: str, official: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `PatchUNet`, `CodeEncoder` or `CodeMLP` (all but `use_remat`, `dtype` and `rngs`).

    Args:
      network: "unet", "encoder" or "latent".
      official: the fields of the program's `BeatGANsAutoencConfig`, `BeatGANsEncoderConfig` or `MLPSkipNetConfig`
        that say what is built; others are ignored.

    Raises:
      UserError: a field is missing, or has a value that cannot be built.
    """
    if missing := [name for name in _NEEDED[network] if name not in official]:
        raise UserError(f"the official config lacks {', '.join(missing)}; it needs {', '.join(_NEEDED[network])}")
    for name, value in _FIXED[network].items():
        if official.get(name, value) != value:
            raise UserError(f"the official config has {name} {official[name]}; only {value} can be built")
    if network == "latent":
        return _latent(official)
    settings = {ours: official[theirs] for ours, theirs in _CONVOLUTIONS.items()}
    settings["channel_mult"] = tuple(settings["channel_mult"])
    if network == "unet":
        settings |= {"code_dim": official["enc_out_channels"], "embed_dim": official["embed_channels"]}
        return settings | {"attn_levels": _attn_levels(official, _NOMINAL_SIZE), "dropout": official.get("dropout", 0)}
    settings["code_dim"] = official["out_channels"]
    return settings | {"attn_levels": _attn_levels(official, official["image_size"])}


def _attn_levels(official: Mapping[str, Any], nominal_size: int) -> tuple[int, ...]:
    sizes = [nominal_size // 2**level for level in range(len(official["channel_mult"]))]
    return tuple(level for level, size in enumerate(sizes) if size in official["attention_resolutions"])


def _latent(official: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "code_dim": official["num_channels"],
        "width": official["num_hid_channels"],
        "num_layers": official["num_layers"],
        "skip_layers": tuple(official["skip_layers"]),
        "time_width": official["num_time_emb_channels"],
    }
