"""PDM's schedules, losses, strides, single sampling steps and whole trajectories, with networks given as formulas."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.config import DiffusionConfig
from pdm_jax.denoisers.guided import guided
from pdm_jax.denoisers.split import split
from pdm_jax.denoisers.thresholds import absolute_percentile
from pdm_jax.diffusion import Process, ancestral, from_pdm, make_process, sample, sqrt_snr_loss, timesteps, vlb_loss
from pdm_jax.diffusion.parameterization import eps_from_x0, to_prediction
from pdm_jax.diffusion.process import respace
from pdm_jax.ops.images import to_uint8
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step
from tests.parity_kinds._case import Case

INPUTS = (
    "loss/x0",
    "loss/eps",
    "loss/t",
    "loss/pred_x0",
    "loss/var_output",
    "step*/xt",
    "step*/mean_*",
    "step*/var_output",
    "step*/noise",
    "last/xt",
    "last/mean_cond",
    "traj_*/x_T",
    "traj_*/noises",
)
_NULL = 1000  # PDM's null label


def expected(meta: dict) -> dict[str, int]:
    """Steps of given signal-to-noise ratios."""
    return {
        f"timestep_from_snr/{key}/{target}": step
        for key, values in meta.items()
        if key.startswith("bm")
        for target, step in values["timestep_from_snr"].items()
    }


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs."""
    process = _process(case.meta["main_beta_max"])
    return {
        **_schedules(case),
        **_losses(case, process),
        **_strides(case, process),
        **_steps(case, process),
        **_last(case, process),
        **_trajectories(case, process),
    }


def _process(beta_max: float) -> Process:
    return make_process(DiffusionConfig(schedule="linear", beta_max=beta_max, dtype="float32", last_alpha="first"))


def _schedules(case: Case) -> dict[str, np.ndarray]:
    out = {}
    for key in {name.split("/")[0] for name in case.wanted if re.match(r"bm[\d.e-]+/", name)}:
        process = _process(float(key[2:]))
        out |= {
            f"{key}/betas": process.beta,
            f"{key}/alphas_cumprod": process.alpha_bar,
            f"{key}/alpha_prev": process.alpha_bar_prev,
            f"{key}/b_tilde": process.posterior_variance,
            f"{key}/snrs": process.snr,
        }
    for name in expected(case.meta):
        _, key, target = name.split("/")
        process = _process(float(key[2:]))
        out[name] = process.step_of_snr(process.snr[-1] if target == "terminal" else float(target))
    return out


def _losses(case: Case, process: Process) -> dict[str, Array]:
    x0, eps, t, x0_hat, v = (jnp.asarray(case.io[f"loss/{n}"]) for n in ("x0", "eps", "t", "pred_x0", "var_output"))
    z_t = process.q_sample(x0, t, eps)
    prediction = to_prediction(x0_hat, "x0", z_t, t, process, from_pdm(v))
    simple = sqrt_snr_loss(prediction, x0, t, process)
    vlb = vlb_loss(prediction, x0, z_t, t, process)
    return {
        "loss/xt": z_t,
        "loss/L_simple": simple.mean(),
        "loss/L_simple_per_sample": simple,
        "loss/L_vlb": vlb.sum(),
        "loss/L_vlb_per_sample": vlb,
        "loss/L_vlb_per_sample_float64": vlb,
        "loss/pred_var": process.p_mean_variance(prediction, z_t, t)[1],
        "loss/eps_from_x0": eps_from_x0(x0, z_t, t, process),
        "loss/x0_from_v": to_prediction(x0_hat, "v", z_t, t, process).x0,
        "loss/x0_from_x0": prediction.x0,
    }


def _strides(case: Case, process: Process) -> dict[str, np.ndarray]:
    out = {}
    for name, spec in case.meta["strides"].items():
        t = timesteps(spec, process.num_steps)
        spaced = respace(process, t, "first")
        out |= {
            f"stride/{name}/t": t,
            f"stride/{name}/t_next": np.append(-1, t[:-1]),
            f"stride/{name}/alpha": spaced.alpha_bar,
            f"stride/{name}/alpha_next": spaced.alpha_bar_prev,
            f"stride/{name}/beta": spaced.beta,
            f"stride/{name}/b_tilde": spaced.posterior_variance,
        }
    return out


def _steps(case: Case, process: Process) -> dict[str, Array]:
    out, sampler = {}, ancestral("learned")
    for step in case.meta["steps"]:
        prefix, t, scale = step["prefix"], step["t"], step["W"]
        arrays = {name.split("/")[1]: jnp.asarray(a) for name, a in case.io.items() if name.startswith(f"{prefix}/")}
        z, moment, cond = arrays["xt"], Step(t=jnp.int32(t)), Cond(label=jnp.zeros(len(arrays["xt"]), jnp.int32))
        denoiser = _canned(arrays, step["output_type"], process)
        if scale is not None:
            null = Cond(label=jnp.full_like(cond.label, _NULL))
            raw = guided(denoiser, process, scale, null)(z, moment, cond).x0
            out[f"{prefix}/percentile_99_5"] = absolute_percentile(raw, 99.5)
            denoiser = guided(denoiser, process, scale, null, threshold="dynamic")
        table = sampler.table(process, np.array([step["t_next"], t]), "first")
        row = {name: column[0] for name, column in table.items()}
        out[f"{prefix}/out"] = sampler.step(z, denoiser(z, moment, cond), row, arrays["noise"])
    return out


def _canned(arrays: dict[str, Array], kind: str, process: Process) -> Denoiser:
    """A denoiser that gives the stored outputs of the network, by label; those of one label come in order."""
    stored = jnp.stack([arrays["mean_cond"], arrays.get("mean_uncond", arrays["mean_cond"])])

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        is_null = (cond.label == _NULL).astype(jnp.int32)
        sample_index = jnp.where(is_null, jnp.cumsum(is_null), jnp.cumsum(1 - is_null)) - 1
        output = stored[is_null, sample_index]
        variance = from_pdm(arrays["var_output"][sample_index]) if "var_output" in arrays else None
        return to_prediction(output, kind, z_t, step.t, process, variance)

    return denoise


def _last(case: Case, process: Process) -> dict[str, Array]:
    z, mean = jnp.asarray(case.io["last/xt"]), jnp.asarray(case.io["last/mean_cond"])
    t = np.array([case.meta["last_t"]])

    def final(kind: str) -> Array:
        def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
            return to_prediction(mean, kind, z_t, step.t, process, jnp.zeros_like(mean))

        noises = jnp.ones((1, *z.shape))
        return sample(denoise, process, ancestral(), t, z, None, Cond(), last_alpha="first", noises=noises).final

    return {"last/out": final("x0"), "last/out_v": final("v")}


def _trajectories(case: Case, process: Process) -> dict[str, Array]:
    out, traj = {}, case.meta["traj"]
    t = timesteps(traj["n"], process.num_steps)
    parts = [_formula(traj[f"{name}_noise_net"], process) for name in ("high", "low")]
    denoiser = split(parts, [traj["split"]])
    cond = Cond(label=jnp.asarray(traj["labels"], jnp.int32))
    null = Cond(label=jnp.full_like(cond.label, _NULL))
    for prefix in {name.split("/")[0] for name in case.wanted if name.startswith("traj_")}:
        scale = traj[f"{prefix.removeprefix('traj_')}_W"]
        network = denoiser
        if scale != 1:
            network = guided(denoiser, process, scale, null, threshold="dynamic", unguided_last=True)
        z, noises = case.io[f"{prefix}/x_T"], case.io[f"{prefix}/noises"]
        noises = jnp.concatenate([noises, jnp.zeros((len(t) - len(noises), *z.shape))])  # the last step has none
        samples = jax.jit(
            lambda z, noises, network=network: sample(
                network, process, ancestral(), t, z, None, cond, last_alpha="first", noises=noises, every=1
            )
        )(z, noises)
        out |= {
            f"{prefix}/t": t[::-1],
            f"{prefix}/xs": samples.intermediates,
            f"{prefix}/uint8": to_uint8(samples.final),
        }
    return out


def _formula(net: dict[str, float], process: Process) -> Denoiser:
    """The stand-in for a network that the meta describes."""

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        weight = jnp.where(cond.label == _NULL, net["au"], net["a"]).reshape(-1, 1, 1, 1)
        mean = weight * z_t * (1 - 0.5 * step.t.astype(jnp.float32) / 1000) + net["b"] * jnp.sin(3 * z_t)
        return to_prediction(mean, "x0", z_t, step.t, process, from_pdm(0.5 + 0.4 * jnp.cos(2 * z_t)))

    return denoise
