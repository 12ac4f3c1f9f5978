"""Starting noise of a canvas that is larger than the trained one, with the noise of the trained one inside."""

from __future__ import annotations

from einops import rearrange, reduce

from pdm_jax import rng
from pdm_jax.types import Array


def enlarged_noise(noise: Array, factor: int, keys: Array) -> Array:
    """White noise of `factor` times the size, whose coarse structure is that of the given white noise.

    The mean of each factor x factor block, times the factor, is the given noise at this place. The rest is fresh, so
    that all pixels are independent and standard normal.

    Args:
      noise: (B, H, W, C).
      keys: [B], one a sample.
    """
    _, height, width, channels = noise.shape
    fresh = rng.normal_each(rng.stream_each(keys, "enlarged"), (factor * height, factor * width, channels))
    blocks = rearrange(fresh, "b (h p) (w q) c -> b h p w q c", p=factor, q=factor)
    detail = blocks - reduce(blocks, "b h p w q c -> b h 1 w 1 c", "mean")
    coarse = noise[:, :, None, :, None] / factor
    return rearrange(detail + coarse, "b h p w q c -> b (h p) (w q) c")


def surrounded_noise(noise: Array, margins: tuple[int, int, int, int], keys: Array) -> Array:
    """White noise with so many pixels more at the top, bottom, left and right; the given noise stays inside.

    Args:
      noise: (B, H, W, C).
      margins: top, bottom, left, right.
      keys: [B], one a sample.
    """
    top, bottom, left, right = margins
    _, height, width, channels = noise.shape
    shape = (top + height + bottom, left + width + right, channels)
    fresh = rng.normal_each(rng.stream_each(keys, "surrounded"), shape)
    return fresh.at[:, top : top + height, left : left + width].set(noise)
