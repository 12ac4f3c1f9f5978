"""CLIP from Hugging Face's folders: sizes from `config.json`, weights under the published names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.interop.hugging_face import read_json, read_tensors
from pdm_jax.interop.matching import Shape, match_names
from pdm_jax.networks.clip import Clip, ImageTower, TextTower
from pdm_jax.networks.functional import Definition, define
from pdm_jax.networks.transformer import TransformerSettings
from pdm_jax.types import Params

# What `config.json` leaves out has these values (transformers 5.23, configuration_clip.py).
_COMMON = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_TEXT = _COMMON | {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
_IMAGE = _COMMON | {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
}
_TOWERS = {"text": "text_model", "image": "vision_model"}
_PROJECTIONS = {"text": "text_projection.weight", "image": "visual_projection.weight"}
_NORMS_OUT = {"text": "final_layer_norm", "image": "post_layernorm"}
_WORDS = {
    "token_embedding": "embeddings.token_embedding",
    "position_embedding": "embeddings.position_embedding",
    "patch_embedding": "embeddings.patch_embedding",
    "class_embedding": "embeddings.class_embedding",
    "norm_in": "pre_layrnorm",  # spelt so in the published files
    "transformer": "encoder",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "norm_attention": "layer_norm1",
    "norm_mlp": "layer_norm2",
    "mlp_in": "mlp.fc1",
    "mlp_out": "mlp.fc2",
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
}


def open_clip(folder: str | os.PathLike) -> tuple[Definition, Params]:
    """A `Clip` and its parameters from a folder such as openai/clip-vit-base-patch16.

    Raises:
      UserError: a file is missing or damaged, or config and weights do not fit each other.
    """
    definition = define_clip(read_json(Path(folder) / "config.json"))
    return definition, load(read_tensors(folder), definition)


def open_text_tower(folder: str | os.PathLike) -> tuple[Definition, Params]:
    """A `TextTower` that stands alone and its parameters, such as the folder text_encoder of Stable Diffusion.

    Raises:
      UserError: as `open_clip`.
    """
    tensors = read_tensors(folder)
    with_projection = _PROJECTIONS["text"] in tensors
    definition = define_text_tower(read_json(Path(folder) / "config.json"), with_projection=with_projection)
    return definition, load(tensors, definition, "text")


def define_clip(config: Mapping[str, Any]) -> Definition:
    """The `Clip` of a `config.json` of transformers' `CLIPModel`.

    Raises:
      UserError: the config lacks a tower, or has sizes that are none.
    """
    for name in ("text_config", "vision_config"):
        if not isinstance(config.get(name), Mapping):
            raise UserError(f"the CLIP config has no {name}; give the folder of a whole CLIP model, text and image")
    text, image = _sizes(config["text_config"], _TEXT), _sizes(config["vision_config"], _IMAGE)
    projection_dim = _projection_dim(config)
    return define(lambda rngs: Clip(_text_tower(text, projection_dim, rngs), _image_tower(image, projection_dim, rngs)))


def define_text_tower(config: Mapping[str, Any], *, with_projection: bool) -> Definition:
    """The `TextTower` of a `config.json` of `CLIPTextModel` or `CLIPTextModelWithProjection`.

    Raises:
      UserError: the config has sizes that are none.
    """
    sizes, projection_dim = _sizes(config, _TEXT), _projection_dim(config) if with_projection else None
    return define(lambda rngs: _text_tower(sizes, projection_dim, rngs))


def define_image_tower(config: Mapping[str, Any], *, with_projection: bool) -> Definition:
    """The `ImageTower` of a `config.json` of `CLIPVisionModel` or `CLIPVisionModelWithProjection`.

    Raises:
      UserError: the config has sizes that are none.
    """
    sizes, projection_dim = _sizes(config, _IMAGE), _projection_dim(config) if with_projection else None
    return define(lambda rngs: _image_tower(sizes, projection_dim, rngs))


def load(tensors: Mapping[str, np.ndarray], definition: Definition, tower: str | None = None) -> Params:
    """Parameters from tensors under their published names.

    Args:
      tensors: as published; of any float type.
      definition: of a `Clip`, or of the `tower` ("text" or "image") alone.

    Returns:
      A nested dict of float32 numpy arrays like `definition.shapes`.

    Raises:
      UserError: tensors are missing, surplus or misshapen; lists them.
    """
    # Older files also keep the numbers 0, 1, 2... that index the position embedding.
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(".position_ids")}
    if tower is not None:
        tensors = _prefixed(tensors, tower)
    match_names(tensors, official_shapes(definition, tower))
    return jax.tree.map_with_path(
        lambda keys, _: _from_torch(tensors[_official_name(keys, tower)], keys), definition.shapes
    )


def official_shapes(definition: Definition, tower: str | None = None) -> dict[str, Shape]:
    """Published names and shapes of a `Clip`, or of one `tower`."""
    return {
        _official_name(keys, tower): _torch_shape(leaf.shape, keys)
        for keys, leaf in jax.tree.leaves_with_path(definition.shapes)
    }


def _prefixed(tensors: Mapping[str, np.ndarray], tower: str) -> dict[str, np.ndarray]:
    """The tensors of one tower under their published names: transformers 5 writes it without the tower's prefix."""
    prefix, projection = f"{_TOWERS[tower]}.", _PROJECTIONS[tower]
    if any(name.startswith(prefix) for name in tensors):
        return dict(tensors)
    return {name if name == projection else prefix + name: tensor for name, tensor in tensors.items()}


def _sizes(config: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The known settings of a config, with their usual values where it has none or null."""
    found = {}
    for name, usual in known.items():
        value = usual if config.get(name) is None else config[name]
        if not isinstance(value, type(usual)) and not (isinstance(usual, float) and isinstance(value, int)):
            raise UserError(f"{name} in the CLIP config is {value!r}; expected a value like {usual!r}")
        found[name] = value
    return found


def _projection_dim(config: Mapping[str, Any]) -> int:
    return _sizes(config, {"projection_dim": 512})["projection_dim"]


def _text_tower(sizes: Mapping[str, Any], projection_dim: int | None, rngs: nnx.Rngs) -> TextTower:
    return TextTower(
        _transformer_settings(sizes),
        vocab_size=sizes["vocab_size"],
        max_length=sizes["max_position_embeddings"],
        eos=sizes["eos_token_id"],
        projection_dim=projection_dim,
        rngs=rngs,
    )


def _image_tower(sizes: Mapping[str, Any], projection_dim: int | None, rngs: nnx.Rngs) -> ImageTower:
    return ImageTower(
        _transformer_settings(sizes),
        image_size=sizes["image_size"],
        patch_size=sizes["patch_size"],
        projection_dim=projection_dim,
        rngs=rngs,
    )


def _transformer_settings(sizes: Mapping[str, Any]) -> TransformerSettings:
    return TransformerSettings(
        features=sizes["hidden_size"],
        mlp_features=sizes["intermediate_size"],
        num_layers=sizes["num_hidden_layers"],
        num_heads=sizes["num_attention_heads"],
        activation=sizes["hidden_act"],
        norm_eps=sizes["layer_norm_eps"],
    )


def _official_name(keys: tuple, tower: str | None) -> str:
    """The published name of the parameter at these keys."""
    path = [str(key.key) for key in keys]
    if tower is None:
        tower, *path = path
    if tower not in _TOWERS:  # the scale, beside the towers
        return tower
    if path[0] == "projection":
        return _PROJECTIONS[tower]
    words = _WORDS | {"norm_out": _NORMS_OUT[tower]}
    return ".".join([_TOWERS[tower], *(words.get(word, word) for word in path)])


def _torch_shape(shape: Shape, keys: tuple) -> Shape:
    """Features of output and input come first there."""
    return (shape[-1], shape[-2], *shape[:-2]) if keys[-1].key == "kernel" else shape


def _from_torch(tensor: np.ndarray, keys: tuple) -> np.ndarray:
    turned = np.moveaxis(tensor, (0, 1), (-1, -2)) if keys[-1].key == "kernel" else tensor
    return np.asarray(turned, np.float32, order="C")
