"""CLIP score (Hessel et al. 2021, arXiv 2104.08718): how well images fit their texts, as torchmetrics 1.9 counts it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.evaluation.clip_input import ImageSettings, open_image_settings, open_tokenizer, prepare
from pdm_jax.evaluation.networks import digest
from pdm_jax.interop.clip import open_clip as open_network
from pdm_jax.types import Array, Params


@dataclasses.dataclass(frozen=True)
class ClipScorer:
    """A CLIP network with its tokenizer and its way of preparing images."""

    params: Params
    cosine: Callable[[Params, Array, Array], Array]  # (params, pixels (B, S, S, 3), tokens [B, K]) -> (B,); jitted
    tokenize: Callable[[Sequence[str]], np.ndarray]  # texts to tokens [B, K]
    image_settings: ImageSettings

    @property
    def identity(self) -> dict[str, str]:
        """What tells scores of this network from those of another one."""
        return {"features": "clip", "weights": digest(self.params), "resize": "clip"}

    def scores(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """100 times the cosine between each image and its text; below zero where they point apart.

        Args:
          images: uint8 (B, H, W, C) of any size, C 1 or 3.
          texts: one an image.

        Returns:
          (B,) float32.

        Raises:
          UserError: not one text an image.
        """
        if len(images) != len(texts):
            raise UserError(f"there are {len(images)} images and {len(texts)} texts; expected one text an image")
        pixels = prepare(images, self.image_settings)
        return 100 * np.asarray(self.cosine(self.params, pixels, self.tokenize(texts)))


def clip_score(scores: np.ndarray) -> float:
    """The score of a set from those of its images [N]: their mean, or 0 if that is negative."""
    return max(float(np.mean(scores, dtype=np.float64)), 0.0)


def open_clip(folder: str | os.PathLike) -> ClipScorer:
    """The scorer of a folder as Hugging Face publishes CLIP, such as openai/clip-vit-base-patch16.

    Raises:
      UserError: a file is missing or damaged, or the files do not fit each other.
    """
    definition, params = open_network(folder)
    network = definition.bind(params)
    settings = open_image_settings(folder)
    if settings.crop_size != network.image.image_size:
        raise UserError(
            f"the image settings in {folder} crop to {settings.crop_size} pixels, the network reads "
            f"{network.image.image_size}; download the folder again"
        )

    def cosine(params: Params, pixels: Array, tokens: Array) -> Array:
        clip = definition.bind(params)
        with jax.default_matmul_precision("float32"):  # as the official programs compute, on accelerators too
            return (clip.embed_images(pixels) * clip.embed_texts(tokens)).sum(-1)

    tokenize = open_tokenizer(folder, network.text.max_length)
    return ClipScorer(jax.device_put(params), jax.jit(cosine), tokenize, settings)
