"""guided-diffusion's process (`adm/diffusion`): tables, losses, single steps, loops and the variational bound."""

from __future__ import annotations

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.config import DiffusionConfig
from pdm_jax.denoisers.thresholds import clipped
from pdm_jax.diffusion import (
    Process,
    ancestral,
    bits_per_dim,
    ddim,
    ddim_inverse,
    from_adm,
    make_process,
    mse_loss,
    sample,
    timesteps,
)
from pdm_jax.diffusion.likelihood import discretized_log_likelihood, normal_kl, prior_bits, vb_term
from pdm_jax.diffusion.parameterization import to_prediction
from pdm_jax.diffusion.process import respace
from pdm_jax.diffusion.samplers import Ancestral, DdimInverse, Sampler
from pdm_jax.errors import UserError
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step
from tests.parity_kinds._case import Case

INPUTS = ("x0", "eps", "t", "p_sample/*/noise", "ddim/*/noise", "ddim_reverse/t", "spaced/*noise", "spaced/*/x_T")
_KINDS = {"START_X": "x0", "EPSILON": "eps"}
_VARIANCES = {"LEARNED_RANGE": "learned", "FIXED_SMALL": "small", "FIXED_LARGE": "large"}


@dataclasses.dataclass(frozen=True)
class _Model:
    """A combination of what the stand-in network puts out and which variance the process has."""

    kind: str
    variance: str
    formula: dict  # the network puts out a * z + c * t and b * z

    def denoiser(self, process: Process, clip: bool) -> Denoiser:
        def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
            t = jnp.reshape(step.t, (-1, 1, 1, 1)).astype(jnp.float32)
            output = self.formula["a"] * z_t + self.formula["c"] * t
            variance = from_adm(self.formula["b"] * z_t) if self.variance == "learned" else None
            return to_prediction(output, self.kind, z_t, step.t, process, variance)

        return clipped(denoise, process, "static" if clip else "none")


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    io = {name: jnp.asarray(array if array.ndim < 4 else _to_nhwc(array)) for name, array in case.io.items()}
    processes = {name: _process(*args) for name, args in case.meta["schedules"].items()}
    process = processes[case.meta["main_schedule"]]
    models = {
        name: _Model(_known(_KINDS, kind), _known(_VARIANCES, variance), case.meta["fake_model"])
        for name, (kind, variance) in case.meta["combos"].items()
    }
    out = _schedules(processes) | _distributions(io, process)
    for name, model in models.items():
        out |= _predictions(name, model, io, process)
        out |= _single_steps(name, model, io, process)
        out |= _losses(name, model, io, process, case.meta["training_losses_loss_type"])
    for name, spec in case.meta["spaced"].items():
        out |= _spaced(name, spec, next(iter(models.values())), io, process)  # the loops run the first combination
    return {name: array if jnp.ndim(array) < 4 else _to_nchw(array) for name, array in out.items()}


def _process(schedule: str, num_steps: int) -> Process:
    scale = 1000 / num_steps  # guided-diffusion's linear schedule ends with the same noise for any number of steps
    return make_process(DiffusionConfig(schedule, num_steps, beta_min=scale * 1e-4, beta_max=scale * 0.02))


def _rounded(process: Process) -> Process:
    """The process with its tables in float32: guided-diffusion computes DDIM's coefficients from such."""
    return Process(*(table.astype(np.float32) for table in (process.beta, process.alpha_bar, process.alpha_bar_prev)))


def _schedules(processes: dict[str, Process]) -> dict[str, np.ndarray]:
    out = {}
    for name, process in processes.items():
        out |= {
            f"{name}/betas": process.beta,
            f"{name}/alphas_cumprod": process.alpha_bar,
            f"{name}/alphas_cumprod_prev": process.alpha_bar_prev,
            f"{name}/posterior_variance": process.posterior_variance,
            f"{name}/posterior_log_variance_clipped": process.posterior_log_variance,
            f"{name}/posterior_mean_coef1": process.posterior_x0,
            f"{name}/posterior_mean_coef2": process.posterior_z,
        }
    return out


def _distributions(io: dict[str, Array], process: Process) -> dict[str, Array]:
    x0, t = io["x0"], io["t"]
    z_t = process.q_sample(x0, t, io["eps"])
    mean, variance, log_variance = process.q_posterior(x0, z_t, t)
    # The reference does not say which Gaussians it compared; these are the ones that its numbers belong to.
    return {
        "q_sample": z_t,
        "posterior/mean": mean,
        "posterior/variance": jnp.broadcast_to(variance, x0.shape),
        "posterior/log_variance_clipped": jnp.broadcast_to(log_variance, x0.shape),
        "prior_bpd": prior_bits(x0, process),
        "decoder_loglik": discretized_log_likelihood(x0, 0.9 * x0, jnp.full_like(x0, -2)),
        "normal_kl": normal_kl(x0, jnp.full_like(x0, -1), z_t, jnp.full_like(x0, -2)),
    }


def _predictions(name: str, model: _Model, io: dict[str, Array], process: Process) -> dict[str, Array]:
    out, t = {}, io["t"]
    z_t = process.q_sample(io["x0"], t, io["eps"])
    for clip in (True, False):
        prediction = model.denoiser(process, clip)(z_t, Step(t=t), Cond())
        mean, variance, log_variance = process.p_mean_variance(prediction, z_t, t, model.variance)
        prefix = f"p_mean_variance/{name}/{'clip' if clip else 'noclip'}"
        out |= {
            f"{prefix}/mean": mean,
            f"{prefix}/variance": jnp.broadcast_to(variance, mean.shape),
            f"{prefix}/log_variance": jnp.broadcast_to(log_variance, mean.shape),
            f"{prefix}/pred_xstart": prediction.x0,
        }
    return out


def _single_steps(name: str, model: _Model, io: dict[str, Array], process: Process) -> dict[str, Array]:
    z_t = process.q_sample(io["x0"], io["t"], io["eps"])

    def step(sampler: Sampler, t: Array, noise: Array | None) -> Array:
        """One step of each sample, from its own t."""
        tables = process if isinstance(sampler, Ancestral) else _rounded(process)
        table = sampler.table(tables, np.arange(process.num_steps))
        # The inverse's first row starts from the image itself, not from a state at t = 0.
        place = t + 1 if isinstance(sampler, DdimInverse) else process.num_steps - 1 - t
        row = {key: jnp.asarray(column)[place].reshape(-1, 1, 1, 1) for key, column in table.items()}
        prediction = model.denoiser(process, clip=True)(z_t, Step(t=t), Cond())
        return sampler.step(z_t, prediction, row, noise)

    noisy = {f"p_sample/{name}": ancestral(model.variance)}
    for key in io:
        if found := re.fullmatch(rf"(ddim/{name}/eta([\d.]+))/noise", key):
            noisy[found[1]] = ddim(float(found[2]))
    out = {f"{prefix}/sample": step(sampler, io["t"], io[f"{prefix}/noise"]) for prefix, sampler in noisy.items()}
    return out | {f"ddim_reverse/{name}/sample": step(ddim_inverse(), io["ddim_reverse/t"], None)}


def _losses(name: str, model: _Model, io: dict[str, Array], process: Process, loss_type: str) -> dict[str, Array]:
    x0, eps, t = io["x0"], io["eps"], io["t"]
    z_t = process.q_sample(x0, t, eps)
    bound = partial(vb_term, x0=x0, z_t=z_t, t=t, process=process, variance=model.variance)
    prediction = model.denoiser(process, clip=False)(z_t, Step(t=t), Cond())
    out = {f"vb_terms/{name}/output": bound(model.denoiser(process, clip=True)(z_t, Step(t=t), Cond()))}
    if loss_type in ("KL", "RESCALED_KL"):
        scale = process.num_steps if loss_type == "RESCALED_KL" else 1
        return out | {f"training_losses/{name}/loss": bound(prediction) * scale}
    mse = mse_loss(prediction, model.kind, x0, eps, t, process)
    out |= {f"training_losses/{name}/mse": mse, f"training_losses/{name}/loss": mse}
    if model.variance == "learned":
        vb = bound(prediction) * (process.num_steps / 1000 if loss_type == "RESCALED_MSE" else 1)
        out |= {f"training_losses/{name}/vb": vb, f"training_losses/{name}/loss": mse + vb}
    return out


def _spaced(name: str, spec: str | list[int], model: _Model, io: dict[str, Array], process: Process) -> dict:
    t = timesteps(spec, process.num_steps)
    spaced = respace(process, t)
    prefix = f"spaced/{name}"
    out = {
        f"{prefix}/timesteps": t,
        f"{prefix}/timestep_map": t,
        f"{prefix}/betas": spaced.beta,
        f"{prefix}/alphas_cumprod": spaced.alpha_bar,
    }
    denoiser = model.denoiser(process, clip=True)
    for loop, sampler in (("p_sample_loop", ancestral(model.variance)), ("ddim_loop", ddim())):
        if f"{prefix}/{loop}_noise" in io:
            run_loop = jax.jit(
                lambda z, noises, sampler=sampler: sample(denoiser, process, sampler, t, z, None, Cond(), noises=noises)
            )
            out[f"{prefix}/{loop}"] = run_loop(io[f"{prefix}/x_T"], io[f"{prefix}/{loop}_noise"]).final
    if f"{prefix}/bpd/noise" in io:
        measure = jax.jit(
            lambda x0, noises: bits_per_dim(
                denoiser, process, t, x0, None, Cond(), variance=model.variance, noises=noises
            )
        )
        bound = measure(io["x0"], io[f"{prefix}/bpd/noise"])
        out |= {
            f"{prefix}/bpd/total_bpd": bound.total,
            f"{prefix}/bpd/prior_bpd": bound.prior,
            f"{prefix}/bpd/vb": bound.terms,
            f"{prefix}/bpd/xstart_mse": bound.x0_mse,
            f"{prefix}/bpd/mse": bound.eps_mse,
        }
    return out


def _known(table: dict[str, str], name: str) -> str:
    if name not in table:
        raise UserError(f"{name} of the case's combos cannot be run; known are {', '.join(table)}")
    return table[name]


def _to_nhwc(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, -3, -1)


def _to_nchw(array: Array) -> Array:
    return jnp.moveaxis(array, -1, -3)
