"""latent-diffusion's `cond_stage_config` in our terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks import ClassEmbedder, SpatialRescaler, TokenEncoder

_IGNORED = ("device", "key", "use_tokenizer", "embedding_dropout")  # no weights depend on them


def translate(target: str, official: Mapping[str, Any]) -> tuple[type[nnx.Module], dict[str, Any]]:
    """The network that makes a condition, and its keyword arguments (all but `use_remat`, `dtype` and `rngs`).

    Args:
      target: name of the program's class, with or without its module.
      official: its arguments, those with defaults where they differ from them.

    Raises:
      UserError: the class is not known, or an argument is missing, unknown or has a value that cannot be built.
    """
    name = target.rpartition(".")[2]
    if name not in _TARGETS:
        raise UserError(f"the official config makes conditions by {target}; known are {', '.join(_TARGETS)}")
    network, defaults, needed, settings = _TARGETS[name]
    if missing := [key for key in needed if key not in official]:
        raise UserError(f"the official config of {name} lacks {', '.join(missing)}; it needs {', '.join(needed)}")
    known = (*needed, *defaults, *_IGNORED)
    if unknown := [key for key in official if key not in known]:
        raise UserError(f"the official config of {name} has unknown keys {', '.join(unknown)}; known are {known}")
    return network, settings({**defaults, **official})


def _tokens(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": config["vocab_size"],
        "max_length": config["max_seq_len"],
        "width": config["n_embed"],
        "num_layers": config["n_layer"],
    }


def _classes(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"num_classes": config["n_classes"], "has_null": False, "width": config["embed_dim"]}


def _rescaler(config: Mapping[str, Any]) -> dict[str, Any]:
    if config["method"] not in ("bilinear", "area") or config["multiplier"] != 0.5:
        raise UserError(
            f"the official config resizes by {config['multiplier']} and {config['method']}; only halvings that are "
            "bilinear or area can be built"
        )
    return {
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "num_halvings": config["n_stages"],
        "use_bias": config["bias"],
    }


_TOKEN_DEFAULTS = {"max_seq_len": 77}
_RESCALER_DEFAULTS = {
    "n_stages": 1,
    "method": "bilinear",
    "multiplier": 0.5,
    "in_channels": 3,
    "out_channels": None,
    "bias": False,
}
# Our network, the defaults of the program's arguments, those without one, and how they become our settings.
_TARGETS: Mapping[str, tuple[type[nnx.Module], Mapping[str, Any], tuple[str, ...], Callable]] = {
    "BERTEmbedder": (TokenEncoder, {**_TOKEN_DEFAULTS, "vocab_size": 30522}, ("n_embed", "n_layer"), _tokens),
    "TransformerEmbedder": (TokenEncoder, _TOKEN_DEFAULTS, ("n_embed", "n_layer", "vocab_size"), _tokens),
    "ClassEmbedder": (ClassEmbedder, {"n_classes": 1000}, ("embed_dim",), _classes),
    "SpatialRescaler": (SpatialRescaler, _RESCALER_DEFAULTS, (), _rescaler),
}
