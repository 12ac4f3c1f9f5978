"""Patch-DM's U-Net with feature collage: the official training step (`train/*`) and whole images (`infer/*`)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pdm_jax.config import DiffusionConfig
from pdm_jax.denoisers.collaged import collaged
from pdm_jax.diffusion import Process, make_process
from pdm_jax.interop import patch_dm
from pdm_jax.interop.patch_dm_config import translate
from pdm_jax.networks import PatchUNet, define
from pdm_jax.networks.functional import Definition
from pdm_jax.ops.collage import collage, cut, pad_half, shifted_positions
from pdm_jax.ops.embeddings import cosine_code, position_code
from pdm_jax.ops.positions import grid
from pdm_jax.systems.patch_dm import null
from pdm_jax.systems.patch_loss import Patches, Window, crop, noisy_window, window_loss
from pdm_jax.types import Array, Cond, Params
from tests.parity_kinds._case import Case

INPUTS = (
    *(f"train/{name}" for name in ("image", "idx", "t", "noise_padded", "index", "s_random", "pos_random")),
    *(f"infer/{name}" for name in ("x_t", "t", "cond")),
)
_CODE_DROPOUT, _POSITION_DROPOUT = 0.1, 0.5  # kept where the draw is at least this


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    io = {name: to_nhwc(jnp.asarray(array)) for name, array in case.io.items()}
    definition, params = network(case)
    probe = _Probe(definition, case.meta["config"]["patch_size"], case.meta["lateral_stored"]["input_block"])
    out = {}
    if "infer/x_t" in io:
        out |= probe.infer(params, io)
    if "train/image" in io:
        process = _process(case.meta["train_case"]["sampling"])
        out |= probe.train(params, jnp.asarray(patch_dm.load_table(case.weights)), io, process)
    return out


def network(case: Case) -> tuple[Definition, Params]:
    """The U-Net of a case and its weights."""
    config = case.meta["config"]
    settings = translate("unet", config | {"enc_out_channels": config["semantic_dim"]})
    definition = define(lambda rngs: PatchUNet(**settings, rngs=rngs))
    return definition, patch_dm.load(case.weights, definition, "unet")


@dataclasses.dataclass(frozen=True)
class _Probe:
    """The network and the skip that the case looks at."""

    definition: Definition
    patch_size: int
    skip: int

    def infer(self, params: Params, io: Mapping[str, Array]) -> dict[str, Array]:
        """The whole image with all, some and no conditions, and what lies between encoder and decoder."""
        x_t, t, code = (io[f"infer/{name}"] for name in ("x_t", "t", "cond"))
        rows, columns = (side // self.patch_size for side in x_t.shape[1:3])
        everything = Cond(code=code, position=jnp.broadcast_to(grid(rows, columns), (len(t), rows + 1, columns + 1, 3)))
        nothing = null(everything, 0)
        conds = {
            "": everything,
            "_no_pos": dataclasses.replace(everything, position=nothing.position),
            "_no_semantic": dataclasses.replace(everything, code=nothing.code),
            "_uncond": nothing,
        }
        whole = jax.jit(lambda params, cond: collaged(self.definition.bind(params), self.patch_size)(x_t, t, cond)[0])
        out = {f"eps_image{name}": whole(params, cond) for name, cond in conds.items()}
        out |= jax.jit(self.between)(params, pad_half(x_t, self.patch_size), t, everything)
        return {f"infer/{name}": to_nchw(array) for name, array in out.items()}

    def train(self, params: Params, table: Array, io: Mapping[str, Array], process: Process) -> dict[str, Array]:
        """The loss of a step with its predictions, targets and gradients, and what lies between."""
        io = {name.removeprefix("train/"): array for name, array in io.items()}
        keep = {"semantic": io["s_random"] >= _CODE_DROPOUT, "pos": io["pos_random"] >= _POSITION_DROPOUT}
        keep = {name: kept.astype(jnp.float32) for name, kept in keep.items()}
        window = self.window(io["image"], io["noise_padded"], io["index"], io["t"], process)
        position = _window_positions(io["index"], keep["pos"])

        def loss(weights: tuple[Params, Array]) -> tuple[Array, tuple[dict[str, Array], dict[str, Array]]]:
            params, table = weights
            code = table[io["idx"]] * keep["semantic"][:, None]
            cond, patches = Cond(code=code, position=position), Patches(self.definition.bind(params), self.patch_size)
            losses, terms = window_loss(patches, window, io["t"], cond, "both")
            return losses.mean(), (terms, self.between(params, window.z_t, io["t"], cond))

        step = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (value, (terms, between)), (gradients, of_table) = step((params, table))
        official = patch_dm.to_official(gradients, self.definition, "unet") | {patch_dm.TABLE: of_table}
        half = self.patch_size // 2
        out = between | {
            "loss": value,
            "loss_shift": terms["shifted"].mean(),
            "loss_noshift": terms["plain"].mean(),
            "patches_in": self.cut(window.z_t),
            "target_shift": window.target[:, half:-half, half:-half],
            "target_noshift": self.cut(window.target),
            "mask_noshift": self.cut(window.inside),
            "grad_global_l2norm": optax.global_norm(official),
            **{f"{name}_keep": kept for name, kept in keep.items()},
        }
        gradients = {f"train/grad::{name}": array for name, array in official.items()}
        return gradients | {f"train/{name}": to_nchw(array) for name, array in out.items()}

    def window(self, image: Array, noise: Array, index: Array, t: Array, process: Process) -> Window:
        """The noisy window at `index` (row, column) of every image; the noise (B, H + P, W + P, C) is padded."""
        start, side = index * self.patch_size, 2 * self.patch_size
        first = start - self.patch_size // 2  # in the image that is not padded
        x0, inside = jax.vmap(lambda one: crop(one, first, self.patch_size))(image)
        eps = jax.lax.dynamic_slice(noise, (0, *start, 0), (len(noise), side, side, noise.shape[-1]))
        return noisy_window(inside * x0, inside, eps, t, process, "eps")

    def between(self, params: Params, z_t: Array, t: Array, cond: Cond) -> dict[str, Array]:
        """Conditions, features and, for a window, predictions of a padded image (B, n P, m P, C), patch by patch."""
        network, out = self.definition.bind(params), {}
        patches = Patches(network, self.patch_size)
        shifted = dataclasses.replace(cond, position=shifted_positions(cond.position))
        for name, of_image in (("", cond), ("_shift", shifted)):
            steps, own = _of_patches(t, of_image)
            place, code = network.embed(steps, own)
            out |= {
                f"pos{name}": own.position[:, :2],
                f"pos_sinusoid{name}": position_code(own.position, 64),
                f"time_sinusoid{name}": cosine_code(steps, network.width),
                f"emb{name or '_unshift'}": place,
                f"cond{name or '_unshift'}": code,
            }
        features = patches.encode(z_t, t, cond)
        after = jax.tree.map(collage, features)
        for name, of in (("before", features), ("after", after)):
            for kind, maps in (("mid", of.mid), ("lateral", of.skips[self.skip])):
                out[f"{kind}_{name}"] = maps.reshape(-1, *maps.shape[3:])
        out["pred_shift"] = self.cut(patches.decode(after, t, shifted, "shifted"))
        out["pred_noshift"] = self.cut(patches.decode(features, t, cond, "plain"))
        return out

    def cut(self, x: Array) -> Array:
        """Images as a batch of patches."""
        patches = cut(x, self.patch_size)
        return patches.reshape(-1, *patches.shape[3:])


def _of_patches(t: Array, cond: Cond) -> tuple[Array, Cond]:
    """Steps and conditions of a batch of patches, from t [B], codes (B, D) and positions (B, n, m, 3)."""
    count = cond.position.shape[1] * cond.position.shape[2]
    return jnp.repeat(t, count), Cond(code=jnp.repeat(cond.code, count, axis=0), position=cond.position.reshape(-1, 3))


def _window_positions(index: Array, keep: Array) -> Array:
    """Positions (B, 2, 2, 3) of a window's patches, known where they are kept [B]."""
    rows, columns = (axis + np.arange(2) for axis in np.asarray(index, np.float32))
    places = jnp.stack([*np.meshgrid(rows, columns, indexing="ij"), np.ones((2, 2))], axis=-1)  # (2, 2, 3)
    return places[None] * jnp.stack([jnp.ones_like(keep)] * 2 + [keep], axis=-1)[:, None, None]


def _process(text: str) -> Process:
    schedule, steps = re.match(r"schedule (\w+), (\d+) steps", text).groups()
    return make_process(DiffusionConfig(schedule, int(steps)))


def to_nhwc(array: Array) -> Array:
    """NCHW to NHWC; other ranks as they are."""
    return jnp.moveaxis(array, 1, -1) if array.ndim == 4 else array


def to_nchw(array: Array) -> Array:
    """NHWC to NCHW; other ranks as they are."""
    return jnp.moveaxis(array, -1, 1) if array.ndim == 4 else array
