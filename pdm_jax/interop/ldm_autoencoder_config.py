"""The arguments of latent-diffusion's `AutoencoderKL` and `VQModel` in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdm_jax.errors import UserError

_NEEDED = ("z_channels", "resolution", "ch", "ch_mult", "num_res_blocks", "attn_resolutions", "in_channels", "out_ch")
# What no released first stage has otherwise; `double_z` follows from the kind.
_FIXED = {"resamp_with_conv": True, "give_pre_end": False, "tanh_out": False, "use_linear_attn": False}
_OTHERS = ("double_z", "attn_type", "dropout")
_ATTENTIONS = ("vanilla", "none")


def translate(ddconfig: Mapping[str, Any], embed_dim: int, num_codes: int | None = None) -> dict[str, Any]:
    """Keyword arguments of `Autoencoder` (all but `dtype` and `rngs`).

    Attention, listed there by nominal sizes of feature maps, is placed by level.

    Args:
      ddconfig: the program's arguments of encoder and decoder.
      embed_dim: its argument of this name.
      num_codes: its `n_embed`; None for `AutoencoderKL`, which has none.

    Raises:
      UserError: an argument is missing, unknown or has a value that no released first stage has.
    """
    if missing := [key for key in _NEEDED if key not in ddconfig]:
        raise UserError(f"the official ddconfig lacks {', '.join(missing)}; it needs {', '.join(_NEEDED)}")
    known = (*_NEEDED, *_OTHERS, *_FIXED)
    if unknown := [key for key in ddconfig if key not in known]:
        raise UserError(f"the official ddconfig has unknown keys {', '.join(unknown)}; known are {', '.join(known)}")
    kind = "kl" if num_codes is None else "vq"
    wanted = _FIXED | {"double_z": kind == "kl", "dropout": 0, "out_ch": ddconfig["in_channels"]}
    for key, value in wanted.items():
        if ddconfig.get(key, value) != value:
            raise UserError(f"the official ddconfig has {key} {ddconfig[key]}; only {value} can be built for {kind}")
    attention = ddconfig.get("attn_type", "vanilla")
    if attention not in _ATTENTIONS:
        raise UserError(f"the official ddconfig has attn_type {attention!r}; only 'vanilla' and 'none' can be built")
    sizes = [ddconfig["resolution"] // 2**level for level in range(len(ddconfig["ch_mult"]))]
    attended = ddconfig["attn_resolutions"] if attention == "vanilla" else ()
    return {
        "kind": kind,
        "channels": ddconfig["in_channels"],
        "width": ddconfig["ch"],
        "channel_mult": tuple(ddconfig["ch_mult"]),
        "num_blocks": ddconfig["num_res_blocks"],
        "attn_levels": tuple(level for level, size in enumerate(sizes) if size in attended),
        "latent_channels": ddconfig["z_channels"],
        "embed_dim": embed_dim,
        "num_codes": num_codes or 0,
        "mid_attention": attention == "vanilla",
    }
