"""Space as overlapping tiles: a denoiser of small images for large ones (LDM's patch-wise application)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from pdm_jax.diffusion import Process, to_prediction
from pdm_jax.errors import UserError
from pdm_jax.ops.tiling import CLIP, Clip, Size, apply_tiled
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step


def tiled(
    denoiser: Denoiser,
    process: Process,
    kernel: Size,
    stride: Size,
    *,
    clip: Clip = CLIP,
    tie_clip: Clip | None = None,
    max_tiles: int = 1,
) -> Denoiser:
    """A denoiser of images of any size, whose eps is that of overlapping tiles, each weighed from its border inwards.

    `concat`, `mask` and the previous prediction are cut as the image is; each tile has all of its image's label, code
    and context. Put it inside `guided`.

    Args:
      process: in which x0 is computed of the blended eps.
      kernel, stride, clip, tie_clip, max_tiles: as in `ops.tiling.apply_tiled`; LDM's are 128 and 64 latent pixels.

    Raises:
      UserError: tiles that do not fit, or, when called, a condition with positions of patches.
    """

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        if cond.position is not None:
            raise UserError("positions of patches belong to the whole image; a model that has them cannot be tiled")
        whole = {"z": z_t, "concat": cond.concat, "mask": cond.mask, "previous": step.previous}

        def of_tiles(tiles: dict) -> dict[str, Array | None]:
            count = len(tiles["z"]) // len(z_t)
            told, t = jax.tree.map(
                lambda x: jnp.repeat(x, count, axis=0) if x.ndim else x,
                (Cond(label=cond.label, code=cond.code, context=cond.context), step.t),
            )
            own = dataclasses.replace(told, concat=tiles["concat"], mask=tiles["mask"])
            said = denoiser(tiles["z"], dataclasses.replace(step, t=t, previous=tiles["previous"]), own)
            return {"eps": said.eps, "variance": said.variance}

        said = apply_tiled(of_tiles, whole, kernel, stride, clip=clip, tie_clip=tie_clip, max_tiles=max_tiles)
        return to_prediction(said["eps"], "eps", z_t, step.t, process, said["variance"])

    return denoise
