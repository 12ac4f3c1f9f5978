"""LDM's schedules, losses and samplers, with a network given as a formula in the meta."""

from __future__ import annotations

import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from pdm_jax.config import DiffusionConfig
from pdm_jax.denoisers.guided import guided
from pdm_jax.denoisers.thresholds import clipped
from pdm_jax.diffusion import Process, l1_loss, make_process, mse_loss, timesteps, to_prediction, x0_from_eps
from pdm_jax.diffusion.process import respace
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step
from tests.parity_kinds._case import Case
from tests.parity_kinds._ldm_samplers import Setting, decimal, found, run_ancestral, run_ddim, run_plms

INPUTS = (
    *("x", "noise", "x0", "context", "uncond_context", "t", "mask"),
    *("noise_sequence", "mask_q_noise_sequence", "ddpm_loop_T*_noise"),
    *("ddim_step_index", "plms_step_index", "plms_old_eps"),
)
TRAJECTORIES = ("*_traj*", "*_sample_*", "*_sample")
_IMAGES = ("x", "noise", "x0", "mask", "noise_sequence", "mask_q_noise_sequence", "plms_old_eps")


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    io = {name: jnp.asarray(array) for name, array in case.io.items()}
    io |= {name: jnp.moveaxis(io[name], -3, -1) for name in io if name in _IMAGES or name.endswith("_noise")}
    process = _process(case.meta["main_schedule"])
    network = _network(case.meta["fake_model"], process)
    steps = timesteps(f"uniform{case.meta['ddim_steps']}", process.num_steps)
    cond = Cond(context=io["context"])
    null = Cond(context=io["uncond_context"])
    plain = Setting(process, network, cond, steps)
    guide = Setting(process, guided(network, process, case.meta["guidance_scale"], null, kind="eps"), cond, steps)
    images = {
        **_chain(io, process, network, cond),
        **run_ddim(case.wanted, io, plain, guide),
        **run_plms(io, plain, guide),
        **{f"scaled_latent_{x}": decimal(x) * io["x0"] for x in found(r"scaled_latent_(\d+)", case.wanted)},
    }
    for length in found(r"ddpm_loop_T(\d+)_traj", case.wanted):
        short = _process(case.meta["main_schedule"], int(length))
        setting = Setting(short, _network(case.meta["fake_model"], short), cond, steps)
        images[f"ddpm_loop_T{length}_traj"] = run_ancestral(io, setting)
    return {
        **{name: jnp.moveaxis(x, -1, -3) for name, x in images.items()},
        **_tables(case, process, steps),
        **_losses(case, io, process, network, cond),
        "std_rescale_factor": 1 / jnp.std(io["x0"], ddof=1).reshape(1),
    }


def _process(settings: Mapping, num_steps: int | None = None) -> Process:
    name = {"linear": "ldm_linear"}.get(settings["schedule"], settings["schedule"])
    return make_process(
        DiffusionConfig(
            schedule=name,
            num_steps=num_steps or settings.get("timesteps", 1000),
            beta_min=settings["linear_start"],
            beta_max=settings["linear_end"],
        )
    )


def _network(formula: str, process: Process) -> Denoiser:
    """The stand-in for a network: the formula's numbers, in the order in which they stand."""
    terms = formula.partition("=")[2].partition(";")[0].replace(" ", "")
    numbers = [float(x) for x in re.findall(r"[-+]?\d+(?:\.\d+)?(?:e-?\d+)?", terms)]
    linear, wave, frequency, time, pace, tokens = numbers

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        t = jnp.atleast_1d(step.t).astype(jnp.float32).reshape(-1, 1, 1, 1)
        mean = cond.context.mean((1, 2)).reshape(-1, 1, 1, 1)
        eps = linear * z_t + wave * jnp.sin(frequency * z_t) + time * jnp.cos(pace * t)
        eps += tokens * jnp.tanh(mean) * jnp.cos(z_t)
        return to_prediction(eps, "eps", z_t, step.t, process)

    return denoise


def _tables(case: Case, process: Process, steps: np.ndarray) -> dict[str, np.ndarray]:
    out = {}
    for name in found("betas_(.*)", case.wanted):
        out[f"betas_{name}"] = _process(case.meta["schedules"][name], *case.wanted[f"betas_{name}"]).beta
    for name in found(r"ddim_timesteps_([a-z]+_\d+)", case.wanted):
        out[f"ddim_timesteps_{name}"] = timesteps(name.replace("_", ""), process.num_steps)
    for name in found(r"buf_posterior_variance_v(\d+)", case.wanted):
        out[f"buf_posterior_variance_v{name}"] = process.fixed_variance(decimal(name))
    spaced = respace(process, steps, "first")
    for name in found(r"ddim_sigmas_eta(\d+)", case.wanted):
        out[f"ddim_sigmas_eta{name}"] = decimal(name) * np.sqrt(spaced.posterior_variance)
    for sampler, goal, back in (("ddim", "t", 0), ("plms", "t", 0), ("plms", "t_next", 1)):
        index, name = int(case.io[f"{sampler}_step_index"][0]), f"{sampler}_step_{goal}"
        out[name] = np.full(len(case.io["x"]), steps[max(index - back, 0)])
    return out | {
        "buf_betas": process.beta,
        "buf_alphas_cumprod": process.alpha_bar,
        "buf_alphas_cumprod_prev": process.alpha_bar_prev,
        "buf_sqrt_alphas_cumprod": process.signal,
        "buf_sqrt_one_minus_alphas_cumprod": process.sigma,
        "buf_log_one_minus_alphas_cumprod": np.log(1 - process.alpha_bar),
        "buf_sqrt_recip_alphas_cumprod": 1 / process.signal,
        "buf_sqrt_recipm1_alphas_cumprod": process.sigma / process.signal,
        "buf_posterior_variance": process.posterior_variance,
        "buf_posterior_log_variance_clipped": np.log(np.maximum(process.posterior_variance, 1e-20)),
        "buf_posterior_mean_coef1": process.posterior_x0,
        "buf_posterior_mean_coef2": process.posterior_z,
        "buf_lvlb_weights": process.vlb_weights("eps"),
        "buf_lvlb_weights_x0": process.vlb_weights("x0"),
        "ddim_timesteps": steps,
        "ddim_alphas": spaced.alpha_bar,
        "ddim_alphas_prev": spaced.alpha_bar_prev,
    }


def _losses(case: Case, io: Mapping[str, Array], process: Process, network: Denoiser, cond: Cond) -> dict[str, Array]:
    """Means over the batch; a network that puts out x0 puts out what is eps of another."""
    out, x0, noise, t = {}, io["x0"], io["noise"], io["t"]
    vlb_share = float(re.search(r"loss_\*: original_elbo_weight ([\d.]+)", "\n".join(case.meta["notes"]))[1])
    z_t = process.q_sample(x0, t, noise)
    output = network(z_t, Step(t=t), cond).eps
    for kind in ("eps", "x0"):
        prediction = to_prediction(output, kind, z_t, t, process)
        weights = jnp.asarray(process.vlb_weights(kind), jnp.float32)[t]
        for name, loss in (("l2", mse_loss), ("l1", l1_loss)):
            simple = loss(prediction, kind, x0, noise, t, process)
            vlb = (weights * simple).mean()
            out |= {f"loss_simple_{name}_{kind}": simple.mean(), f"loss_vlb_{name}_{kind}": vlb}
            out[f"loss_{name}_{kind}"] = simple.mean() + vlb_share * vlb
            for digits in found(rf"loss_logvar(\d+)_{name}_{kind}", case.wanted):
                spread = simple / np.exp(decimal(digits)) + decimal(digits)
                out[f"loss_logvar{digits}_{name}_{kind}"] = spread.mean()
    return {name: x.reshape(1) for name, x in out.items()}


def _chain(io: Mapping[str, Array], process: Process, network: Denoiser, cond: Cond) -> dict[str, Array]:
    """Single steps of the whole chain, each sample at a t of its own."""
    x, t = io["x"], io["t"]
    prediction = network(x, Step(t=t), cond)

    def p_sample(prediction: Prediction) -> Array:
        mean, _, log_variance = process.p_mean_variance(prediction, x, t, "small")
        return mean + (t > 0).reshape(-1, 1, 1, 1) * jnp.exp(0.5 * log_variance) * io["noise"]

    return {
        "q_sample": process.q_sample(io["x0"], t, io["noise"]),
        "model_eps": prediction.eps,
        "predict_start_from_noise": x0_from_eps(prediction.eps, x, t, process),
        "q_posterior_mean": process.q_posterior(io["x0"], x, t)[0],
        "ddpm_p_sample": p_sample(prediction),
        "ddpm_p_sample_clipped": p_sample(clipped(network, process, "static")(x, Step(t=t), cond)),
    }
