"""Random views of images for training the local feature network: cropped, turned, exposed, degraded.

Images are float32 (B, S, S, C) in [-1, 1]; each is changed by its own draw.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from pdm_jax.types import Array

TURNS = 4  # by 0, 90, 180 and 270 degrees
DEGRADATIONS = 3  # blur, noise and block quantisation
SETTINGS = {
    "least_scale": 0.7,  # of a crop's side
    "contrast": 0.1,  # gains are 1 -+ this
    "brightness": 0.1,  # offsets are -+ this
    "blur": 0.05,  # largest standard deviation, as a part of the side
    "noise": 0.4,  # largest standard deviation
    "quantisation": 1.0,  # largest step of the lowest frequency
}
_BLOCK = 8  # JPEG's


def crop(x: Array, key: Array) -> Array:
    """A random window of each image, enlarged to the whole."""
    side = x.shape[1]
    scale_key, place_key = jax.random.split(key)
    zoom = 1 / jax.random.uniform(scale_key, (len(x), 1), minval=SETTINGS["least_scale"], maxval=1.0)
    shift = jax.random.uniform(place_key, (len(x), 2)) * side * (1 - zoom)  # (B, 2) of the image's corner

    def resized(image: Array, zoom: Array, shift: Array) -> Array:
        zoom = jnp.repeat(zoom, 2)
        return jax.image.scale_and_translate(image, image.shape, (0, 1), zoom, shift, "linear", antialias=False)

    return jax.vmap(resized)(x, zoom, shift)


def turn(x: Array, key: Array) -> tuple[Array, Array]:
    """Images turned by random quarters, and by how many [B]."""
    turns = jax.random.randint(key, (len(x),), 0, TURNS)
    every = jnp.stack([jnp.rot90(x, count, (1, 2)) for count in range(TURNS)], axis=1)
    return jnp.take_along_axis(every, turns[:, None, None, None, None], axis=1)[:, 0], turns


def expose(x: Array, key: Array) -> Array:
    """Slightly more or less contrast and brightness."""
    keys, shape = jax.random.split(key), (len(x), 1, 1, 1)
    gain = jax.random.uniform(keys[0], shape, minval=1 - SETTINGS["contrast"], maxval=1 + SETTINGS["contrast"])
    return x * gain + jax.random.uniform(keys[1], shape, minval=-SETTINGS["brightness"], maxval=SETTINGS["brightness"])


def degrade(x: Array, key: Array) -> tuple[Array, Array]:
    """Blurred, quantised as JPEG does, and noisy, each with probability 1/2, and how strongly (B, 3) in [0, 1]."""
    strength_key, chance_key, noise_key = jax.random.split(key, 3)
    shape = (len(x), DEGRADATIONS)
    strength = jnp.where(jax.random.bernoulli(chance_key, 0.5, shape), jax.random.uniform(strength_key, shape), 0.0)
    blur, noise, step = (strength[:, i] for i in range(DEGRADATIONS))
    x = _blur(x, SETTINGS["blur"] * x.shape[1] * blur)
    x = _quantise(x, SETTINGS["quantisation"] * jnp.square(step))  # squared: most draws are weak
    x = x + SETTINGS["noise"] * jnp.square(noise)[:, None, None, None] * jax.random.normal(noise_key, x.shape)
    return jnp.clip(x, -1, 1), strength


def _blur(x: Array, deviation: Array) -> Array:
    """Gaussian blur by deviations [B] in pixels; weights add up to one at the border too."""
    place = jnp.arange(x.shape[1], dtype=jnp.float32)
    distance = jnp.square(place[:, None] - place[None])[None]  # (1, S, S)
    weights = jax.nn.softmax(-distance / (2 * jnp.square(deviation)[:, None, None] + 1e-3))
    return jnp.einsum("bij,bjkc,blk->bilc", weights, x, weights)


def _quantise(x: Array, step: Array) -> Array:
    """Rounds cosine coefficients of 8x8 blocks (less where 8 does not divide the side) to multiples of `step` [B].

    Higher frequencies are rounded more coarsely.
    """
    size = math.gcd(x.shape[1], _BLOCK)
    blocks = x.reshape(len(x), x.shape[1] // size, size, x.shape[2] // size, size, -1)
    frequency = jnp.arange(size, dtype=jnp.float32)
    basis = jnp.cos(jnp.pi * (frequency[None] + 0.5) * frequency[:, None] / size)
    basis = basis / jnp.linalg.norm(basis, axis=1, keepdims=True)  # (u, i), orthonormal
    steps = (1 + frequency[:, None] + frequency[None])[None] * step[:, None, None] + 1e-4  # (B, u, v)
    steps = steps[:, None, :, None, :, None]
    coefficients = jnp.einsum("ui,vj,bhiwjc->bhuwvc", basis, basis, blocks)
    return jnp.einsum("ui,vj,bhuwvc->bhiwjc", basis, basis, jnp.round(coefficients / steps) * steps).reshape(x.shape)
