"""The table of semantic codes before its training: as many rows as the data has images, and what is in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.config import CodeConfig, Config
from pdm_jax.data import Dataset
from pdm_jax.errors import UserError
from pdm_jax.types import Array, Params

_SIDE = 8  # of a thumbnail

Encode = Callable[[Array], Array]  # images (B, H, W, C) uint8 -> codes (B, D) float32


def with_table_size(config: Config, dataset: Any) -> Config:
    """The config with a row for each image where it does not say how many."""
    if config.codes.kind != "table" or config.codes.num is not None:
        return config
    return dataclasses.replace(config, codes=dataclasses.replace(config.codes, num=dataset.num_records))


def check_table(config: Config, dataset: Any) -> None:
    """Raises a `UserError` unless the table has a row for each image: others would never be trained, and sampled."""
    num = config.codes.num
    if config.codes.kind == "table" and num not in (None, dataset.num_records):
        raise UserError(
            f"config.codes.num is {num}, but {dataset.name} has {dataset.num_records} images; set it to "
            f"{dataset.num_records} (or leave it out)"
        )


def with_first_codes(config: Config, dataset: Dataset, params: Params) -> Params:
    """The initial parameters with the codes that `config.codes.init` asks for.

    Raises:
      UserError: there is no such way, or CLIP's files do not fit.
    """
    if config.codes.kind != "table" or config.codes.init == "random":
        return params
    table = params["codes"]["table"]
    encode, codes = _encoder(config.codes, config.data.channels, config.seed), np.zeros(table.shape, np.float32)
    found = [(batch["index"], np.asarray(encode(batch["image"]))) for batch in dataset.once()]
    index, values = _from_all_hosts(*(np.concatenate(part) for part in zip(*found, strict=True)))
    codes[index] = values
    return params | {"codes": {"table": jax.make_array_from_callback(table.shape, table.sharding, codes.__getitem__)}}


def _from_all_hosts(index: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and their codes (n, D) of this host's images, together with those of the other hosts."""
    if jax.process_count() == 1:
        return index, values
    from jax.experimental import multihost_utils

    most = int(multihost_utils.process_allgather(np.int32(len(index))).max())
    again = np.arange(most) % len(index)  # arrays of one size: some rows are sent twice
    index, values = multihost_utils.process_allgather((index[again].astype(np.int32), values[again]))
    return index.reshape(-1), values.reshape(-1, values.shape[-1])


def _encoder(codes: CodeConfig, channels: int, seed: int) -> Encode:
    kind, _, folder = codes.init.partition(":")
    if kind == "thumbnail" and not folder:
        return thumbnails(codes.dim, channels, seed)
    if kind == "clip" and folder:
        return clip_features(folder, codes.dim)
    raise UserError(f"config.codes.init is {codes.init!r}; expected 'random', 'thumbnail' or 'clip:FOLDER'")


def thumbnails(dim: int, channels: int, seed: int) -> Encode:
    """Codes of 8x8 thumbnails by a fixed random projection: alike images have alike codes, without any weights.

    They deviate as pixels in [-1, 1] do, by about 0.5; CLIP's features have about that too.
    """
    projection = jax.random.normal(jax.random.key(seed), (_SIDE * _SIDE * channels, dim))

    @jax.jit
    def encode(images: Array) -> Array:
        batch, _, _, channels = images.shape
        small = jax.image.resize(images.astype(jnp.float32) / 127.5 - 1, (batch, _SIDE, _SIDE, channels), "linear")
        return small.reshape(batch, -1) @ projection / np.sqrt(len(projection))

    return encode


def clip_features(folder: str, dim: int) -> Encode:
    """CLIP's image features, before they are normed, of the middle of each image (section 4.3).

    CLIP sees images as they are trained on, cropped and resized; the program gives it the stored ones.

    Args:
      folder: of a CLIP model in Hugging Face's layout, such as clip-vit-base-patch16.
      dim: what the features must have.

    Raises:
      UserError: the folder cannot be read, or its features are of another size.
    """
    from pdm_jax.evaluation.clip_input import open_image_settings, prepare
    from pdm_jax.interop.clip import open_clip

    definition, params = open_clip(folder)
    settings = open_image_settings(folder)
    apply = jax.jit(lambda params, pixels: definition.bind(params).image(pixels).embedding)

    def encode(images: np.ndarray) -> Array:
        return _sized(apply(params, prepare(images, settings)), folder, dim)

    return encode


def _sized(features: Array, folder: str, dim: int) -> Array:
    if features.shape[1] != dim:
        raise UserError(f"CLIP in {folder} has {features.shape[1]} features and config.codes.dim is {dim}; set it so")
    return features
