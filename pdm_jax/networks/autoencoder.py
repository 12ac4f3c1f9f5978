"""First stages of latent diffusion: images to latents f times smaller and back (LDM section 3.1, appendix G)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.autoencoder_blocks import Down, Level, Middle, Up, conv1x1, conv3x3, norm
from pdm_jax.networks.patch_blocks import check_levels
from pdm_jax.networks.quantizer import Quantizer, straight_through
from pdm_jax.types import Array

KINDS = ("kl", "vq")
_LOG_VARIANCES = (-30.0, 20.0)  # what they are limited to


class Autoencoder(nnx.Module):
    """An encoder, a decoder and what keeps the latents between them small: a KL term or a codebook.

    Args:
      kind: "kl" (latents are normal distributions) or "vq" (they are looked up in a codebook by the decoder).
      channels: of the images.
      width: base width; each level's is a multiple of 32.
      channel_mult: width factor of each level, finest first; f is 2 to the number of levels less one.
      num_blocks: blocks a level of the encoder; the decoder has one more.
      attn_levels: levels with attention after each block (finest is 0).
      latent_channels: what the encoder puts out and the decoder takes.
      embed_dim: channels of the latents, between two 1x1 convolutions.
      num_codes: in the codebook of "vq".
      mid_attention: whether the middle of encoder and decoder attends.
      dtype: of the computation. The convolutions next to images and latents, norm statistics and softmax are float32
        always, as are the parameters.
    """

    def __init__(
        self,
        *,
        kind: str,
        channels: int = 3,
        width: int = 128,
        channel_mult: Sequence[int],
        num_blocks: int = 2,
        attn_levels: Sequence[int] = (),
        latent_channels: int,
        embed_dim: int,
        num_codes: int = 0,
        mid_attention: bool = True,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths = check_levels(width, channel_mult, num_blocks, attn_levels)
        _check_latents(kind, latent_channels, embed_dim, num_codes)
        moments = 2 if kind == "kl" else 1
        self.kind, self.channels, self.embed_dim, self.factor = kind, channels, embed_dim, 2 ** (len(widths) - 1)
        settings = {"num_blocks": num_blocks, "attn_levels": attn_levels, "mid_attention": mid_attention}
        settings |= {"dtype": dtype, "rngs": rngs}
        self.encoder = Encoder(channels, widths, moments * latent_channels, **settings)
        self.decoder = Decoder(latent_channels, widths, channels, **settings)
        self.codebook = Quantizer(num_codes, embed_dim, rngs=rngs) if kind == "vq" else None
        self.to_latent = conv1x1(moments * latent_channels, moments * embed_dim, dtype=jnp.float32, rngs=rngs)
        self.from_latent = conv1x1(embed_dim, latent_channels, dtype=jnp.float32, rngs=rngs)

    def moments(self, images: Array) -> tuple[Array, Array | None]:
        """Images (B, H, W, channels) in [-1, 1] to the mean and log variance (B, H/f, W/f, embed_dim) of their latents.

        The latents of "vq" are the mean, before the codebook, and their log variance is None.

        Raises:
          UserError: H or W is no multiple of f.
        """
        self.check_size(images.shape[1:3])
        z = self.to_latent(self.encoder(images))
        return split_moments(z) if self.kind == "kl" else (z, None)

    def quantize(self, z: Array) -> Array:
        """The nearest codes of latents, with the gradient going straight through; latents of "kl" as they are."""
        return z if self.codebook is None else straight_through(z, self.codebook.lookup(self.codebook.nearest(z)))

    def decode(self, z: Array, *, lookup: bool = True) -> Array:
        """Latents (B, h, w, embed_dim) to images (B, f h, f w, channels) float32, about in [-1, 1] and not clipped.

        Args:
          lookup: whether "vq" looks its latents up in the codebook first.
        """
        return self.decoder.conv_out(self.decoder_features(self.quantize(z) if lookup else z))

    def decoder_features(self, z: Array) -> Array:
        """What `decoder.conv_out` makes the image of, (B, f h, f w, width) float32; z is not looked up."""
        return self.decoder(self.from_latent(z))

    def check_size(self, size: tuple[int, int]) -> None:
        """Raises a `UserError` unless images of `size` (height, width) can be divided by f."""
        padded = tuple(-(-side // self.factor) * self.factor for side in size)
        if padded != tuple(size):
            raise UserError(
                f"an image of {size[0]}x{size[1]} (height x width) cannot be encoded at f = {self.factor}; pad or "
                f"crop it to multiples of {self.factor}, such as {padded[0]}x{padded[1]}"
            )


class Encoder(nnx.Module):
    """Images to what the moments of latents are read from."""

    def __init__(self, channels, widths, outputs, *, num_blocks, attn_levels, mid_attention, dtype, rngs):
        self.dtype = dtype
        self.conv_in = conv3x3(channels, widths[0], dtype=jnp.float32, rngs=rngs)
        levels, before = [], widths[0]
        for i, width in enumerate(widths):
            resize = Down if i + 1 < len(widths) else None
            levels.append(Level([before] + [width] * num_blocks, i in attn_levels, resize, dtype=dtype, rngs=rngs))
            before = width
        self.levels = nnx.List(levels)
        self.middle = Middle(widths[-1], mid_attention, dtype=dtype, rngs=rngs)
        self.norm_out = norm(widths[-1], rngs)
        self.conv_out = conv3x3(widths[-1], outputs, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, channels) to (B, H/f, W/f, outputs) float32."""
        x = self.conv_in(x).astype(self.dtype)
        for level in self.levels:
            x = level(x)
        return self.conv_out(_activated(self.norm_out, self.middle(x)))


class Decoder(nnx.Module):
    """Latents to images, but for its last convolution, `conv_out`: some losses are weighed by its gradients."""

    def __init__(self, channels, widths, outputs, *, num_blocks, attn_levels, mid_attention, dtype, rngs):
        self.dtype = dtype
        self.conv_in = conv3x3(channels, widths[-1], dtype=jnp.float32, rngs=rngs)
        self.middle = Middle(widths[-1], mid_attention, dtype=dtype, rngs=rngs)
        levels = []
        for i, width in enumerate(widths):
            before = widths[min(i + 1, len(widths) - 1)]
            sizes = [before] + [width] * (num_blocks + 1)
            levels.append(Level(sizes, i in attn_levels, Up if i else None, dtype=dtype, rngs=rngs))
        self.levels = nnx.List(levels)  # finest first, as everywhere
        self.norm_out = norm(widths[0], rngs)
        self.conv_out = conv3x3(widths[0], outputs, dtype=jnp.float32, rngs=rngs)

    def __call__(self, z: Array) -> Array:
        """z (B, h, w, channels) to features (B, f h, f w, width) float32."""
        x = self.middle(self.conv_in(z).astype(self.dtype))
        for level in reversed(list(self.levels)):
            x = level(x)
        return _activated(self.norm_out, x)


def split_moments(z: Array) -> tuple[Array, Array]:
    """The encoder's output (..., 2 D) as mean and log variance (..., D), the latter limited."""
    mean, log_variance = jnp.split(z, 2, axis=-1)
    return mean, jnp.clip(log_variance, *_LOG_VARIANCES)


def draw(mean: Array, log_variance: Array | None, noise: Array) -> Array:
    """Latents of these moments; without a variance, the mean."""
    return mean if log_variance is None else mean + jnp.exp(0.5 * log_variance) * noise


def _activated(norm_out, x: Array) -> Array:
    return jax.nn.swish(norm_out(x.astype(jnp.float32)))


def _check_latents(kind: str, latent_channels: int, embed_dim: int, num_codes: int) -> None:
    if kind not in KINDS:
        raise UserError(f"the kind of an autoencoder is {kind!r}; expected 'kl' or 'vq'")
    for name, value in (("latent_channels", latent_channels), ("embed_dim", embed_dim)):
        if value < 1:
            raise UserError(f"network.{name} is {value}; expected at least 1")
    if (kind == "vq") != (num_codes > 0):
        wanted = "at least 1 for 'vq'" if kind == "vq" else "none for 'kl', which has no codebook"
        raise UserError(f"network.num_codes is {num_codes}; expected {wanted}")
