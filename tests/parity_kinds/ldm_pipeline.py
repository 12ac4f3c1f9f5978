"""Whole models of latent diffusion under their checkpoint names: encoding, guided sampling, training, tiles."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.config import MeshConfig, SampleConfig
from pdm_jax.denoisers.tiled import tiled
from pdm_jax.diffusion import sample, timesteps
from pdm_jax.interop import ldm
from pdm_jax.ops.images import to_uint8
from pdm_jax.ops.tiling import apply_tiled, border_weights, lay_tiles
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.generate import make_generate, make_sampler, raw_key, wrapped
from pdm_jax.systems.latent import FIRST_STAGE
from pdm_jax.systems.ldm import NETWORK
from pdm_jax.types import Array, Params, Step
from tests.parity_kinds._case import Case
from tests.parity_kinds._given_draws import given
from tests.parity_kinds._ldm_model import Model, open_model, to_nhwc

INPUTS = (
    *("image_nhwc", "cond_in", "uncond_in", "*concat*", "t", "*noise*", "[!s]*_eps", "eps", "eps_x"),
    *("x_T", "split_latent", "split_image"),
)
# Inputs of the size of latents that are not the noise of a posterior.
_IMAGES = ("noise", "eps_x", "x_T", "split_latent", "cond_in", "uncond_in")
TRAJECTORIES = ("sample_*",)


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    model, io = open_model(case), {name: to_nhwc(x) for name, x in case.io.items() if name != "image_nhwc"}
    with given({"posterior": _posterior_noise(model, io), "noise": io["noise"], "t": io["t"]}):
        out, images = _training(case, model), _ends(model)
    with given({"initial": io["x_T"], "sampler": io.get("noise_sequence", 0)}):
        images |= _samples(case.meta, model, io)
    images |= _predictions(model, io)
    if "split_input_params" in case.meta:
        images |= _tiles(case.meta["split_input_params"], model, io)
        out |= _weighting(case.meta["split_input_params"], io["split_latent"].shape[1:3])
    steps = timesteps(_sampling(case.meta, model).steps, model.system.process.num_steps)
    out["ddim_timesteps"] = steps
    return out | {name: jnp.moveaxis(x, -1, 1) if jnp.ndim(x) == 4 else x for name, x in images.items()}


def _posterior_noise(model: Model, io: Mapping[str, Array]) -> Array:
    """What latents are drawn with from the posterior of a KL first stage: a noise of another name, or none."""
    shape = (len(model.images), *model.system.image_shape)
    others = (x for name, x in io.items() if name not in _IMAGES and "concat" not in name and x.shape == shape)
    return next(others, jnp.zeros(shape))


def _ends(model: Model) -> dict[str, Array]:
    """Latents, what is decoded of them, and what the network is told."""
    system, space, keys = model.system, model.system.space, np.arange(len(model.images))

    @jax.jit
    def both(params: Params) -> dict[str, Array]:
        latent, moments = space.start(params, model.batch(), keys), space.moments(params, model.images)
        out = {"latent": latent, "reconstruction": space.decode(params, latent), "moments": moments}
        return out | dict(zip(("mean", "logvar"), jnp.split(moments, 2, -1), strict=True) if space.stochastic else ())

    out = both(model.params)
    cond = system.cond(model.params, model.told, out["latent"].shape)
    out |= {"cond_embedding": cond.concat if cond.context is None else cond.context}
    if model.null:
        out["uncond_embedding"] = system.null(model.params, cond).context
    return {name: x for name, x in out.items() if x is not None}


def _training(case: Case, model: Model) -> dict[str, Array]:
    """The loss of a step, and its gradient by the program's names, or its norm."""
    keys = np.arange(len(model.images))

    def mean_loss(network: Params, others: Params) -> Array:
        params = {**others, NETWORK: network}
        return model.system.losses[NETWORK](params, model.batch(), keys, jnp.int32(0))[0].mean()

    loss, gradient = jax.jit(jax.value_and_grad(mean_loss))(model.params[NETWORK], model.params)
    weights = ldm.Weights(gradient, gradient, model.params[FIRST_STAGE], None)
    named = ldm.to_official(weights, model.networks, model.system.process)
    wanted = [name.removeprefix("grad__") for name in case.wanted if name.startswith("grad__")]
    return {
        "train_loss": loss[None],
        "grad_norms": np.stack([np.linalg.norm(named[name]) for name in case.meta["grad_norm_names"]]),
        **{f"grad__{name}": named[name if name in named else f"model.diffusion_model.{name}"] for name in wanted},
    }


def _predictions(model: Model, io: Mapping[str, Array]) -> dict[str, Array]:
    """The noise that the last and the averaged weights see in a state."""

    @jax.jit
    def eps(params: Params) -> Array:
        z = io["eps_x"]
        return model.system.denoiser(params)(z, Step(t=io["t"]), model.system.cond(params, model.told, z.shape)).eps

    return {"eps_raw_weights": eps(model.params), "eps_ema_weights": eps(model.ema)}


def _sampling(meta: Mapping[str, Any], model: Model) -> SampleConfig:
    guidance = meta.get("guidance_scale", 1.0) if model.null else 1.0
    return SampleConfig(
        sampler="ddim",
        steps=f"uniform{meta['ddim_steps']}",
        eta=meta.get("eta", 0.0),
        last_alpha="first",
        guidance=guidance,
    )


def _samples(meta: Mapping[str, Any], model: Model, io: Mapping[str, Array]) -> dict[str, Array]:
    """What sampling makes with the averaged weights: by the whole pipeline, and up to the latents."""
    system, config, keys = model.system, _sampling(meta, model), jnp.arange(len(io["x_T"]))
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    pipeline = make_generate(system, config, mesh, finish=lambda images: images)
    images = pipeline(model.ema, raw_key(0), np.arange(len(keys), dtype=np.int32), dict(model.told), None)

    @jax.jit
    def latents(params: Params) -> Array:
        steps, cond = (
            timesteps(config.steps, system.process.num_steps),
            system.cond(params, model.told, io["x_T"].shape),
        )
        denoiser, options = wrapped(system, params, config, cond), {"last_alpha": config.last_alpha}
        return sample(denoiser, system.process, make_sampler(config), steps, io["x_T"], keys, cond, **options).final

    return {
        "sample_latent_ema": latents(model.ema),
        "sample_image_ema": images,
        "sample_image_ema_uint8": to_uint8(images),
    }


def _tiles(settings: Mapping[str, Any], model: Model, io: Mapping[str, Array]) -> dict[str, Array]:
    """Encoder, decoder and U-Net tile by tile on the first sample, with the last weights."""
    space, process, f = model.system.space, model.system.process, settings["vqf"]
    kernel, stride, clips = _tiling(settings)
    pixels = [tuple(f * side for side in size) for size in (kernel, stride)]

    @jax.jit
    def whole(params: Params) -> dict[str, Array]:
        z, images = io["split_latent"], io["split_image"]
        told = {name: x[: len(z)] for name, x in model.told.items()}
        denoiser = tiled(model.system.denoiser(params), process, kernel, stride, **clips)
        cond, step = model.system.cond(params, told, z.shape), Step(t=io["t"][: len(z)])
        return {
            "split_decoded": apply_tiled(lambda z: space.decode(params, z), z, kernel, stride, scale=f, **clips),
            "split_encoded": apply_tiled(
                lambda x: space.encode(params, x), images, *pixels, scale=Fraction(1, f), **clips
            ),
            "split_eps": denoiser(z, step, cond).eps,
        }

    return whole(model.params)


def _weighting(settings: Mapping[str, Any], size: tuple[int, int]) -> dict[str, np.ndarray]:
    """The weights of the tiles of a canvas of latents, and their sum on it."""
    kernel, stride, clips = _tiling(settings)
    tiles = lay_tiles(size, kernel, stride)
    weights = border_weights(tiles.size, clips["clip"])[..., None] * tiles.weights(clips["tie_clip"])
    total = np.zeros(size, np.float32)
    for (row, column), weight in zip(tiles.starts, np.moveaxis(weights, -1, 0), strict=True):
        total[row : row + kernel[0], column : column + kernel[1]] += weight
    return {"split_weighting": weights[None, None], "split_normalization": total[None, None]}


def _tiling(settings: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[int, int], dict[str, Any]]:
    """Sides of the tiles, how far apart they are, and what their weights are limited to."""
    clip, tie_clip = ((settings[f"clip_min{name}_weight"], settings[f"clip_max{name}_weight"]) for name in ("", "_tie"))
    clips = {"clip": clip, "tie_clip": tie_clip if settings["tie_braker"] else None}
    return tuple(settings["ks"]), tuple(settings["stride"]), clips
