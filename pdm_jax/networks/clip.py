"""CLIP's two towers (Radford et al. 2021, arXiv 2103.00020), as Hugging Face's transformers 5.23 computes them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.transformer import Transformer, TransformerSettings, layer_norm
from pdm_jax.types import Array

LEGACY_EOS = 2  # a wrong value in OpenAI's configs, which is kept and means: the highest token ends the text


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TowerOutput:
    """What a tower makes of texts or images."""

    hidden: tuple[Array, ...]  # (B, K, D) each: what enters the first layer, then what leaves each
    last: Array  # (B, K, D) text: the last hidden state after the final norm; image: as it is
    pooled: Array  # (B, D) the end token or the class token, normed
    embedding: Array | None  # (B, projection_dim), not of unit length; None without a projection


class TextTower(nnx.Module):
    """Tokens to features; each token sees those before it."""

    def __init__(
        self,
        settings: TransformerSettings,
        *,
        vocab_size: int,
        max_length: int,
        eos: int,
        projection_dim: int | None,
        rngs: nnx.Rngs,
    ):
        """Makes the tower.

        Args:
          settings: sizes of its transformer.
          vocab_size: number of tokens.
          max_length: most tokens in a text.
          eos: the token that ends a text; `LEGACY_EOS` means the highest one in it.
          projection_dim: of the embedding shared with images; None makes no embedding.
          rngs: streams of the initial parameters.
        """
        self.eos, self.max_length = eos, max_length
        self.token_embedding = nnx.Embed(vocab_size, settings.features, rngs=rngs)
        self.position_embedding = nnx.Embed(max_length, settings.features, rngs=rngs)
        self.transformer = Transformer(settings, rngs=rngs)
        self.norm_out = layer_norm(settings, rngs=rngs)
        self.projection = _projection(settings, projection_dim, rngs)

    def __call__(self, tokens: Array) -> TowerOutput:
        """tokens [B, K] int, K up to `max_length`; what follows the end token has no influence on `pooled`.

        Stable Diffusion 2's condition is `norm_out(hidden[-2])` of the whole tower, or `last` of the one that its
        text_encoder folder holds, which lacks the last layer.
        """
        if tokens.shape[1] > self.max_length:
            raise UserError(f"the texts have {tokens.shape[1]} tokens; this network reads {self.max_length}: cut them")
        x = self.token_embedding(tokens) + self.position_embedding.embedding[None, : tokens.shape[1]]
        hidden = self.transformer(x, is_causal=True)
        last = self.norm_out(hidden[-1])
        end = jnp.argmax(tokens if self.eos == LEGACY_EOS else tokens == self.eos, axis=1)  # the first such token
        pooled = jnp.take_along_axis(last, end[:, None, None], axis=1)[:, 0]
        return TowerOutput(hidden, last, pooled, _project(self.projection, pooled))


class ImageTower(nnx.Module):
    """A vision transformer over square patches behind a class token."""

    def __init__(
        self,
        settings: TransformerSettings,
        *,
        image_size: int,
        patch_size: int,
        projection_dim: int | None,
        rngs: nnx.Rngs,
    ):
        """Makes the tower.

        Args:
          settings: sizes of its transformer.
          image_size: side of the images, in pixels.
          patch_size: side of a patch.
          projection_dim: of the embedding shared with texts; None makes no embedding.
          rngs: streams of the initial parameters.
        """
        self.image_size = image_size
        features, patch = settings.features, (patch_size, patch_size)
        self.class_embedding = nnx.Param(jax.random.normal(rngs.params(), (features,)))
        self.patch_embedding = nnx.Conv(3, features, patch, patch, padding="VALID", use_bias=False, rngs=rngs)
        self.position_embedding = nnx.Embed((image_size // patch_size) ** 2 + 1, features, rngs=rngs)
        self.norm_in = layer_norm(settings, rngs=rngs)
        self.transformer = Transformer(settings, rngs=rngs)
        self.norm_out = layer_norm(settings, rngs=rngs)
        self.projection = _projection(settings, projection_dim, rngs)

    def __call__(self, pixels: Array) -> TowerOutput:
        """pixels (B, image_size, image_size, 3) float32, normalised as the network was trained."""
        batch, *size, _ = pixels.shape
        if size != [self.image_size] * 2:
            raise UserError(f"images are {size[0]}x{size[1]}; this network reads {self.image_size}x{self.image_size}")
        patches = self.patch_embedding(pixels).reshape(batch, -1, self.class_embedding.size)  # (B, K - 1, D)
        first = jnp.broadcast_to(self.class_embedding[...], (batch, 1, patches.shape[-1]))
        x = jnp.concatenate([first, patches], axis=1) + self.position_embedding.embedding[None]
        hidden = self.transformer(self.norm_in(x))
        pooled = self.norm_out(hidden[-1][:, 0])
        return TowerOutput(hidden, hidden[-1], pooled, _project(self.projection, pooled))


class Clip(nnx.Module):
    """Both towers and the scale of their similarity."""

    def __init__(self, text: TextTower, image: ImageTower):
        self.text, self.image = text, image
        self.logit_scale = nnx.Param(jnp.log(jnp.float32(1 / 0.07)))

    def embed_texts(self, tokens: Array) -> Array:
        """Embeddings (B, projection_dim) of unit length of tokens [B, K]."""
        return unit(self.text(tokens).embedding)

    def embed_images(self, pixels: Array) -> Array:
        """Embeddings (B, projection_dim) of unit length of normalised images (B, S, S, 3)."""
        return unit(self.image(pixels).embedding)


def unit(x: Array) -> Array:
    """x (..., D) divided by its length."""
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def _projection(settings: TransformerSettings, features: int | None, rngs: nnx.Rngs) -> nnx.Linear | None:
    return None if features is None else nnx.Linear(settings.features, features, use_bias=False, rngs=rngs)


def _project(projection: nnx.Linear | None, pooled: Array) -> Array | None:
    return None if projection is None else projection(pooled)
