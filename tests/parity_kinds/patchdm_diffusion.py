"""Patch-DM's diffusion: tables, single steps, the loss of the latent network, and two whole sampling runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.config import Config, DiffusionConfig, read
from pdm_jax.denoisers.bind import as_denoiser
from pdm_jax.denoisers.guided import guided
from pdm_jax.denoisers.thresholds import clipped
from pdm_jax.diffusion import Process, ddim, make_process, sample, timesteps
from pdm_jax.diffusion.process import respace
from pdm_jax.interop import patch_dm
from pdm_jax.interop.patch_dm_config import translate
from pdm_jax.systems import System, make_system
from pdm_jax.types import Array, Cond, Denoiser, Step
from tests.parity_kinds._case import Case
from tests.parity_kinds.patchdm_encoder import latent_network
from tests.parity_kinds.patchdm_unet import network, to_nchw, to_nhwc

INPUTS = (
    *(f"step/*/{name}" for name in ("x_t", "eps_cond", "eps_uncond")),
    *(f"latent_step/*/{name}" for name in ("z_t", "eps")),
    *(f"latent_train/{name}" for name in ("z0", "noise", "t")),
    *(f"pipeline/{name}" for name in ("conds_mean", "conds_std", "*/latent_noise", "*/x_T")),
)


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    config = case.meta["config"]
    io = {name: to_nhwc(jnp.asarray(array)) for name, array in case.io.items()}
    processes = {
        name: make_process(_diffusion(config[f"{name}_schedule"], config["T"])) for name in ("image", "latent")
    }
    out = _tables(config, processes)
    for name in {key.rsplit("/", 1)[0] for key in io}:
        if name.startswith("step/"):
            out |= _image_step(name, config, io, processes["image"])
        if name.startswith("latent_step/"):
            out |= _latent_step(name, config, io, processes["latent"])
    if "latent_train/z0" in io:
        out |= _latent_loss(case, io, processes["latent"])
    for name in case.meta["pipeline"]:
        if f"pipeline/{name}/x_T" in io:
            out |= _pipeline(name, case, io)
    return {name: to_nchw(jnp.asarray(array)) if np.ndim(array) == 4 else array for name, array in out.items()}


def _diffusion(text: str, num_steps: int) -> DiffusionConfig:
    """A schedule as the meta writes it: `linear 1e-4..2e-2` or `const0.008`."""
    if found := re.fullmatch(r"const([\d.]+)", text):
        return DiffusionConfig("constant", num_steps, beta_max=float(found[1]))
    name, low, high = re.fullmatch(r"(\w+) (.+)\.\.(.+)", text).groups()
    return DiffusionConfig(name, num_steps, float(low), float(high))


def _tables(config: Mapping[str, Any], processes: Mapping[str, Process]) -> dict[str, np.ndarray]:
    num_steps, count = config["T"], config["table_steps"]
    out = {f"table/timesteps_evenly_spaced_{count}_(ddpm_style)": timesteps(count, num_steps)}
    t = timesteps(f"ddim{count}", num_steps)
    for name, process in processes.items():
        spaced = respace(process, t)
        tables = {
            f"betas_{num_steps}": process.beta,
            f"alphas_cumprod_{num_steps}": process.alpha_bar,
            f"timesteps_ddim{count}": t,
            f"betas_ddim{count}": spaced.beta,
            f"alphas_cumprod_ddim{count}": spaced.alpha_bar,
            f"alphas_cumprod_prev_ddim{count}": spaced.alpha_bar_prev,
            f"posterior_variance_ddim{count}": spaced.posterior_variance,
        }
        prefix = f"table/{config[f'{name}_schedule'].split()[0]}"
        out |= {f"{prefix}/{table}": values for table, values in tables.items()}
    return out


def _image_step(name: str, config: Mapping[str, Any], io: Mapping[str, Array], process: Process) -> dict[str, Array]:
    """A step from given predictions, plain and guided; a code of 1 stands for the conditions, 0 for none."""
    x_t, eps = io[f"{name}/x_t"], jnp.stack([io[f"{name}/eps_uncond"], io[f"{name}/eps_cond"]], axis=1)

    def given(z_t: Array, t: Array, cond: Cond) -> tuple[Array, None]:
        which = cond.code[:, 0].astype(jnp.int32)
        image = jnp.arange(len(z_t)) // (len(z_t) // len(eps))
        return eps[image, which], None

    denoiser, cond = as_denoiser(given, process, prediction="eps"), Cond(code=jnp.ones((len(x_t), 1)))
    out = {}
    for kind, is_guided in (("plain", False), ("guided", True)):
        limited = _limited(denoiser, process, config, is_guided, lambda cond: Cond(code=0 * cond.code))
        t, out[f"{name}/{kind}_pred_xstart"], out[f"{name}/{kind}_sample"] = _step(
            name, config, process, limited, x_t, cond
        )
    return out | {f"{name}/model_time": t}


def _latent_step(name: str, config: Mapping[str, Any], io: Mapping[str, Array], process: Process) -> dict[str, Array]:
    eps = io[f"{name}/eps"][:, None, None]
    denoiser = as_denoiser(lambda z_t, t, cond: (eps, None), process, prediction="eps")
    limited = clipped(denoiser, process, "static" if config["clip_latent_xstart"] else "none")
    t, x0, z = _step(name, config, process, limited, io[f"{name}/z_t"][:, None, None], Cond())
    return {f"{name}/model_time": t, f"{name}/pred_xstart": x0[:, 0, 0], f"{name}/sample": z[:, 0, 0]}


def _step(
    name: str, config: Mapping[str, Any], process: Process, denoiser: Denoiser, z: Array, cond: Cond
) -> tuple[Array, Array, Array]:
    """The time, x0 and next state of the step `.../iNN` of the spaced sequence, 0 the cleanest."""
    visited = timesteps(f"ddim{config['table_steps']}", config["T"])
    sampler = ddim(config["eta"])
    place = len(visited) - 1 - int(name.rsplit("/i", 1)[1])
    row = {column: jnp.asarray(values)[place] for column, values in sampler.table(process, visited).items()}
    prediction = denoiser(z, Step(t=row["t"]), cond)
    return row["t"], prediction.x0, sampler.step(z, prediction, row, None)


def _limited(
    denoiser: Denoiser, process: Process, config: Mapping[str, Any], is_guided: bool, null: Callable[[Cond], Cond]
) -> Denoiser:
    """The denoiser with guidance, if wanted, and with its x0 clipped; the program's w is ours minus 1."""
    threshold = "static" if config["clip_image_xstart"] else "none"
    if is_guided:
        return guided(denoiser, process, 1 + config["guidance_w"], null, kind="eps", threshold=threshold)
    return clipped(denoiser, process, threshold)


def _latent_loss(case: Case, io: Mapping[str, Array], process: Process) -> dict[str, Array]:
    definition, params = latent_network(case.sister("patchdm_encoder"))
    z0, noise, t = (io[f"latent_train/{name}"] for name in ("z0", "noise", "t"))
    z_t = process.q_sample(z0, t, noise)
    output, _ = jax.jit(lambda params: definition.bind(params)(z_t, t, Cond()))(params)
    return {"latent_train/z_t": z_t, "latent_train/loss_per_sample": jnp.abs(output - noise).mean(-1)}


def _pipeline(name: str, case: Case, io: Mapping[str, Array]) -> dict[str, Array]:
    """Noise to code to image, by the two systems; the run's name says what is on: `guided`, `znorm`."""
    config, prefix = case.meta["config"], f"pipeline/{name}"
    visited = timesteps(f"ddim{config['loop_steps']}", config["T"])
    prior, prior_params = _prior(case)
    images, image_params = _images(case)

    def loop(system: System, denoiser: Denoiser, z: Array, cond: Cond):
        return sample(denoiser, system.process, ddim(config["eta"]), visited, z, None, cond, every=1)

    @jax.jit
    def draw(params: dict) -> dict[str, Array]:
        own = clipped(
            prior.denoiser(params["prior"]), prior.process, "static" if config["clip_latent_xstart"] else "none"
        )
        latents = loop(prior, own, io[f"{prefix}/latent_noise"][:, None, None], Cond())
        code = latents.final[:, 0, 0]
        if "znorm" in name:
            code = code * io["pipeline/conds_std"] + io["pipeline/conds_mean"]
        x_T = io[f"{prefix}/x_T"]
        null = partial(images.null, {})
        limited = _limited(images.denoiser(params["images"]), images.process, config, "guided" in name, null)
        drawn = loop(images, limited, x_T, images.cond({}, {"code": code}, x_T.shape))
        return {
            "latent_trajectory": latents.intermediates[:, :, 0, 0],
            "cond": code,
            "image_trajectory": jnp.moveaxis(drawn.intermediates, -1, 2),
            "image": drawn.final,
        }

    drawn = draw({"prior": prior_params, "images": image_params})
    return {f"{prefix}/{key}": array for key, array in drawn.items()}


def _images(case: Case) -> tuple[System, dict]:
    """The system of images of the case `patchdm_unet` and its parameters."""
    config, sister = case.meta["config"], case.sister("patchdm_unet")
    official = sister.meta["config"]
    settings = translate("unet", official | {"enc_out_channels": official["semantic_dim"]})
    channels, code_dim = settings.pop("channels"), settings.pop("code_dim")
    system = make_system(
        _config(
            data={"image_size": config["image_hw"], "channels": channels},
            model={
                "system": "patch_dm",
                "backbone": "patch_unet",
                "patch_size": config["patch_size"],
                "network": settings,
            },
            codes={"kind": "table", "num": official["num_embeddings"], "dim": code_dim},
            loss={"kind": "both"},
            diffusion=_diffusion(config["image_schedule"], config["T"]),
        )
    )
    return system, {"network": {"unet": network(sister)[1]}}


def _prior(case: Case) -> tuple[System, dict]:
    """The system of codes of the case `patchdm_encoder` and its parameters."""
    config, sister = case.meta["config"], case.sister("patchdm_encoder")
    settings = translate("latent", sister.meta["latent"])
    system = make_system(
        _config(
            data={"image_size": 1, "channels": 3},
            model={"system": "code_prior", "network": {k: v for k, v in settings.items() if k != "code_dim"}},
            codes={"dim": settings["code_dim"]},
            loss={"kind": "l1"},
            diffusion=_diffusion(config["latent_schedule"], config["T"]),
        )
    )
    return system, {"network": patch_dm.load(sister.weights, latent_network(sister)[0], "latent")}


def _config(*, data: dict, model: dict, codes: dict, loss: dict, diffusion: DiffusionConfig) -> Config:
    return read(
        Config,
        {
            "data": data | {"source": "memory", "batch_size": 1},
            "model": model | {"prediction": "eps"},
            "codes": codes,
            "loss": loss | {"target": "eps", "t_max": diffusion.num_steps},
            "diffusion": vars(diffusion),
            "optimizer": {},
        },
    )
