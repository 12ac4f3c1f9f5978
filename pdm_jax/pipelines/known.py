"""Keeping what is known of an image while the rest of it is made (Patch-DM, section 5.4; RePaint, section 4.1)."""

from __future__ import annotations

import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.diffusion import Process
from pdm_jax.diffusion.sampling import StateMap
from pdm_jax.types import Array, Step


def keep_known(
    process: Process, image: Array, weights: Array, keys: Array | None, *, noises: Array | None = None
) -> StateMap:
    """What replaces known pixels, before each step of `diffusion.sample`, by the image with the noise of that step.

    As `after_step` it leaves them one step noisier than the others, which is what LDM's ancestral sampling does.

    Where a weight lies between 0 and 1 the pixel is known at first and set free on the way, the later the larger its
    weight: large structures join what is known and details are new. So each pixel has the noise of the step, which
    a mean of two noisy states would not have.

    Args:
      image: (B or 1, H, W, C) in [-1, 1].
      weights: (B or 1, H, W, 1) in [0, 1]: 0 is never known, 1 always (`ops.masks.known_weights`).
      keys: [B], one a sample; the noise is fresh at each step.
      noises: (N, B, H, W, C) to use instead of drawing them.
    """

    def draw(step: Step) -> Array:
        return rng.normal_each(rng.fold_each(rng.stream_each(keys, "known"), step.index), image.shape[1:])

    def replace(z: Array, step: Step) -> Array:
        eps = draw(step) if noises is None else noises[step.index]
        progress = 1 - (step.t + 1).astype(jnp.float32) / process.num_steps  # in [0, 1)
        return jnp.where(weights > progress, process.q_sample(image, step.t, eps), z)

    return replace


def compose(image: Array, made: Array, weights: Array) -> Array:
    """Mixes two uint8 images (B, H, W, C) by the first one's weights (B or 1, H, W, 1); 1 and 0 keep one exactly."""
    mixed = weights * image.astype(jnp.float32) + (1 - weights) * made.astype(jnp.float32)
    return jnp.round(mixed).astype(jnp.uint8)
