"""Patch-DM's training objective: a window of four patches, and the error of the one in their middle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.config import Config
from pdm_jax.diffusion import Process, v_from_x0_eps
from pdm_jax.networks.functional import Definition
from pdm_jax.ops.collage import collage, cut, join, shifted_positions
from pdm_jax.ops.images import to_float
from pdm_jax.systems.base import Loss
from pdm_jax.systems.diffusion_loss import dropped_labels
from pdm_jax.systems.space import Space
from pdm_jax.types import Array, Cond, Params

KINDS = ("shifted", "both", "plain")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Window:
    """2 x 2 patches of each padded image, as they enter the network."""

    z_t: Array  # (B, 2P, 2P, C) 0 outside the image
    target: Array  # (B, 2P, 2P, C) what the network should put out
    inside: Array  # (B, 2P, 2P, 1) in {0, 1}: 1 in the image


def make_loss(
    config: Config,
    process: Process,
    space: Space,
    definitions: Mapping[str, Definition],
    encode: Callable[[Params, Mapping[str, Array]], Array],
) -> Loss:
    """The loss of a sample: of the patch in the middle of its window ("shifted", the paper's), of that and the
    window's own four patches without collage ("both", the released program's), or of the latter alone ("plain").

    Each image has a window of its own, uniform over the places of its grid, where the program has one a step for the
    whole batch: the expected gradient is the same, its variance is lower, and samples stay independent of their batch.
    Plain windows lie anywhere, for networks whose patches move in pixels (`denoisers.pixel_patches`).

    Args:
      encode: (params, batch) -> codes (B, D); called where the network takes codes that are not in the batch.
    """
    patch_size, kind = config.model.patch_size, config.loss.kind

    def loss(params: Params, batch: Mapping[str, Array], keys: Array, step: Array) -> tuple[Array, dict[str, Array]]:
        images = space.start(params, batch, keys) if space.frozen else batch["image"]
        start = _starts(keys, images.shape, patch_size, kind)
        t = rng.randint_each(rng.stream_each(keys, "t"), config.loss.t_min, config.loss.t_max)
        window = make_window(images, start, t, keys, process, config.model.prediction, patch_size)
        cond = _cond(config, params, batch, keys, start, encode)
        network = Patches(definitions["unet"].bind(params["network"]["unet"]), patch_size, _dropout_keys(config, keys))
        return window_loss(network, window, t, cond, kind)

    return loss


def window_loss(network: Patches, window: Window, t: Array, cond: Cond, kind: str) -> tuple[Array, dict[str, Array]]:
    """The losses [B] of windows and their terms; `cond.position` is (B, 2, 2, 3)."""
    features, terms, half = network.encode(window.z_t, t, cond), {}, network.patch_size // 2
    if kind != "plain":
        shifted = dataclasses.replace(cond, position=shifted_positions(cond.position))
        output = network.decode(jax.tree.map(collage, features), t, shifted, "shifted")
        error = output - window.target[:, half:-half, half:-half]
        terms["shifted"] = jnp.square(error).mean((1, 2, 3))
    if kind != "shifted":
        error = window.inside * (network.decode(features, t, cond, "plain") - window.target)
        terms["plain"] = jnp.square(error).mean((1, 2, 3))  # also over the zeros outside, as the program
    return sum(terms.values()), terms


@dataclasses.dataclass(frozen=True)
class Patches:
    """A network over patches, called with grids of them; `keys` [B] turn dropout on."""

    network: Any
    patch_size: int
    keys: Array | None = None

    def encode(self, z_t: Array, t: Array, cond: Cond) -> Any:
        """z_t (B, n P, m P, C) at t [B] to features (B, n, m, s, s, C); `cond.position` is (B, n, m, 3)."""
        return self._each(self.network.encode, cut(z_t, self.patch_size), t, cond, "encode")

    def decode(self, features: Any, t: Array, cond: Cond, stream: str) -> Array:
        """The output (B, n P, m P, C), float32, of features; `stream` names the draws of dropout."""
        output, _ = self._each(self.network.decode, features, t, cond, stream)
        return join(output).astype(jnp.float32)

    def _each(self, function: Any, inputs: Any, t: Array, cond: Cond, stream: str) -> Any:
        grid = jax.tree.leaves(inputs)[0].shape[:3]
        num = grid[1] * grid[2]
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), inputs)
        own = Cond(
            label=None if cond.label is None else jnp.repeat(cond.label, num),
            code=None if cond.code is None else jnp.repeat(cond.code, num, axis=0),
            position=cond.position.reshape(-1, 3),
        )
        arguments = {}
        if self.keys is not None:
            of_patches = jax.vmap(lambda key: jax.random.split(key, num))(rng.stream_each(self.keys, stream))
            arguments["keys"] = of_patches.reshape(-1)
        outputs = function(flat, jnp.repeat(t, num), own, **arguments)
        return jax.tree.map(lambda x: x.reshape(*grid, *x.shape[1:]), outputs)


def make_window(
    images: Array, start: Array, t: Array, keys: Array, process: Process, prediction: str, patch_size: int
) -> Window:
    """Noisy windows of images (B, H, W, C), which begin at the pixels `start` (B, 2), row and column.

    Images are uint8, so that only what lies in a window becomes float, or latents as they are.
    """
    x0, inside = jax.vmap(lambda image, at: crop(image, at, patch_size))(images, start)
    x0 = inside * (to_float(x0) if x0.dtype == jnp.uint8 else x0)
    eps = rng.normal_each(rng.stream_each(keys, "noise"), x0.shape[1:])
    return noisy_window(x0, inside, eps, t, process, prediction)


def noisy_window(x0: Array, inside: Array, eps: Array, t: Array, process: Process, prediction: str) -> Window:
    """The window of clean pixels x0, 0 outside, with this noise."""
    target = {"eps": lambda: eps, "x0": lambda: x0, "v": lambda: v_from_x0_eps(x0, eps, t, process)}[prediction]()
    return Window(inside * process.q_sample(x0, t, eps), target, inside)


def crop(image: Array, start: Array, patch_size: int) -> tuple[Array, Array]:
    """The 2P x 2P pixels of an image (H, W, C) from `start` on, and (2P, 2P, 1) in {0., 1.}: 1 inside the image.

    `start` (row, column) is above -2P. What lies outside the image is arbitrary. Only the window is copied, so that
    memory does not grow with the image.
    """
    side, size = 2 * patch_size, image.shape[:2]
    image = jnp.pad(image, [(0, max(0, side - length)) for length in size] + [(0, 0)])
    taken = jnp.clip(start, 0, jnp.array(image.shape[:2]) - side)
    window = jax.lax.dynamic_slice(image, (taken[0], taken[1], 0), (side, side, image.shape[2]))
    window = jnp.roll(window, taken - start, axis=(0, 1))
    rows, columns = (start[i] + jnp.arange(side) for i in (0, 1))
    inside = ((rows >= 0) & (rows < size[0]))[:, None] & ((columns >= 0) & (columns < size[1]))[None]
    return window, inside[..., None].astype(jnp.float32)


def _starts(keys: Array, shape: tuple[int, ...], patch_size: int, kind: str) -> Array:
    """The pixels (B, 2) where windows begin: half a patch before one of the grid, or, plain, anywhere."""

    def draw(name: str, side: int) -> Array:
        own = rng.stream_each(keys, name)
        if kind == "plain":
            return rng.randint_each(own, 1 - patch_size, side - patch_size)
        return rng.randint_each(own, 0, side // patch_size) * patch_size - patch_size // 2

    return jnp.stack([draw("row", shape[1]), draw("column", shape[2])], axis=-1)


def _cond(config: Config, params: Params, batch: Mapping[str, Array], keys: Array, start: Array, encode) -> Cond:
    """What the patches of each window are told, dropped for all of them or for none."""
    loss, code, label = config.loss, None, None
    corners = jnp.stack(jnp.meshgrid(jnp.arange(2.0), jnp.arange(2.0), indexing="ij"), axis=-1)  # (2, 2, 2)
    first = start.astype(jnp.float32) / config.model.patch_size + 0.5  # in patches of the padded grid
    where = first[:, None, None] + corners[None]
    told = 1 - _dropped(keys, "position", loss.position_dropout)
    position = jnp.concatenate([where, jnp.broadcast_to(told[:, None, None, None], (*where.shape[:3], 1))], axis=-1)
    if config.codes.kind != "none":
        code = batch["code"] if "code" in batch else encode(params, batch)
        code = code * (1 - _dropped(keys, "code", loss.code_dropout))[:, None]
    if config.model.num_classes:
        label = dropped_labels(batch, keys, config)
    return Cond(label=label, code=code, position=position)


def _dropped(keys: Array, name: str, probability: float) -> Array:
    """[B] 1. where what has this name is dropped, else 0."""
    return rng.bernoulli_each(rng.stream_each(keys, f"drop {name}"), probability).astype(jnp.float32)


def _dropout_keys(config: Config, keys: Array) -> Array | None:
    """Keys where the network may have dropout."""
    return rng.stream_each(keys, "dropout") if config.model.backbone == "patch_unet" else None
