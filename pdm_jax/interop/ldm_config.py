"""The arguments of latent-diffusion's `LatentDiffusion` (`model.params` of its configs) as groups of our config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdm_jax.errors import UserError
from pdm_jax.interop import ldm_autoencoder_config, ldm_conditioners_config, ldm_unet_config
from pdm_jax.networks import ClassEmbedder, SpatialRescaler

_SCHEDULES = {"linear": "ldm_linear", "cosine": "cosine", "sqrt_linear": "sqrt_linear", "sqrt": "sqrt"}
_LOSSES = {"l1": "l1", "l2": "mse"}
_FIRST_STAGES = {"VQModelInterface": "vq", "VQModel": "vq", "AutoencoderKL": "kl"}
_TOKENS = {"coordinates_bbox": "layout", "objects_bbox": "layout"}  # by what the data call it; text otherwise
_FROM_SYSTEM = ("channels", "in_channels", "num_classes", "context_dim")  # our system works these out itself
_NEEDED = ("image_size", "unet_config", "first_stage_config", "cond_stage_config")
_FIXED = {  # what no released model has otherwise
    "original_elbo_weight": 0.0,
    "l_simple_weight": 1.0,
    "v_posterior": 0.0,
    "learn_logvar": False,
    "logvar_init": 0.0,
    "num_timesteps_cond": 1,
    "cosine_s": 0.008,
}


def translate(params: Mapping[str, Any], *, has_null: bool = True) -> dict[str, dict[str, Any]]:
    """The groups `data` (size of images only), `model`, `diffusion`, `latent`, `condition` and `loss` of a config.

    Of a hybrid model, the condition is what is attended to: the program does not say what lies beside z_t.

    Args:
      params: the program's arguments, those with defaults where they differ from them. Those that change neither
        weights nor losses (where data come from, what is logged) are passed over.
      has_null: the last row of an embedding of classes is that of no class (as in cin256-v2).

    Raises:
      UserError: an argument is missing or has a value that cannot be built.
    """
    if missing := [key for key in _NEEDED if key not in params]:
        raise UserError(f"the official config lacks {', '.join(missing)}; it needs {', '.join(_NEEDED)}")
    for key, value in _FIXED.items():
        if params.get(key, value) != value:
            raise UserError(f"the official config has {key} {params[key]}; only {value} can be built")
    latent, stage = _latent(params)
    unet = ldm_unet_config.translate(params["unet_config"]["params"])
    condition, num_classes = _condition(params, has_null)
    predicted = params.get("parameterization", "eps")
    steps = params.get("timesteps", 1000)
    factor = 2 ** (len(stage["channel_mult"]) - 1)
    return {
        "data": {"image_size": params["image_size"] * factor, "channels": stage["channels"]},
        "model": {
            "system": "ldm",
            "backbone": "ldm_unet",
            "prediction": predicted,
            "num_classes": num_classes or unet["num_classes"],
            "network": {name: value for name, value in unet.items() if name not in _FROM_SYSTEM},
        },
        "diffusion": {
            "schedule": _one_of(_SCHEDULES, params, "beta_schedule", "linear"),
            "num_steps": steps,
            "beta_min": params.get("linear_start", 1e-4),
            "beta_max": params.get("linear_end", 2e-2),
        },
        "latent": latent,
        "condition": {**condition, "factor": factor},
        "loss": {"kind": _one_of(_LOSSES, params, "loss_type", "l2"), "target": predicted, "t_max": steps},
    }


def _one_of(known: Mapping[str, str], params: Mapping[str, Any], key: str, default: str) -> str:
    value = params.get(key, default)
    if value not in known:
        raise UserError(f"the official config has {key} {value!r}; only {', '.join(known)} can be built")
    return known[value]


def _latent(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The group `latent`, and all settings of the autoencoder."""
    config = params["first_stage_config"]
    name, own = config["target"].rpartition(".")[2], config["params"]
    if name not in _FIRST_STAGES:
        raise UserError(f"the official config has a first stage {name}; only {', '.join(_FIRST_STAGES)} can be built")
    codes = own["n_embed"] if _FIRST_STAGES[name] == "vq" else None
    stage = ldm_autoencoder_config.translate(own["ddconfig"], own["embed_dim"], codes)
    network = {key: value for key, value in stage.items() if key not in ("kind", "channels")}
    scale = None if params.get("scale_by_std") else params.get("scale_factor", 1.0)
    return {"kind": _FIRST_STAGES[name], "network": network, "scale": scale}, stage


def _condition(params: Mapping[str, Any], has_null: bool) -> tuple[dict[str, Any], int]:
    """The group `condition` without its factor, and the number of classes."""
    config, key = params["cond_stage_config"], _conditioning_key(params)
    if key is None:
        return {"kinds": ()}, 0
    if config == "__is_first_stage__":
        return {"kinds": ("inpaint",)}, 0
    if config["target"].endswith("Identity"):
        return {"kinds": ("superres",) if key == "concat" else ()}, 0
    cls, settings = ldm_conditioners_config.translate(config["target"], config.get("params", {}))
    if cls is ClassEmbedder:
        num_classes = settings.pop("num_classes") - int(has_null)
        return {"kinds": ("class",), "networks": {"class": settings | {"has_null": has_null}}}, num_classes
    kind = "semantic" if cls is SpatialRescaler else _TOKENS.get(params.get("cond_stage_key"), "text")
    return {"kinds": (kind,), "networks": {kind: settings}}, 0


def _conditioning_key(params: Mapping[str, Any]) -> str | None:
    """How the U-Net is told of the condition: `concat`, `crossattn`, `hybrid`, `adm`, or None: not at all."""
    if params["cond_stage_config"] == "__is_unconditional__":
        return None
    return params.get("conditioning_key") or ("concat" if params.get("concat_mode", True) else "crossattn")
