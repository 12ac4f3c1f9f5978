"""LDM's samplers in the cases of `ldm_diffusion`: single steps and whole runs of DDIM, PLMS and the ancestral chain."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.diffusion import Process, ancestral, ddim, plms, sample, timesteps
from pdm_jax.diffusion.samplers import Sampler
from pdm_jax.pipelines.known import keep_known
from pdm_jax.types import Array, Cond, Denoiser, Step


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the runs of a case have in common."""

    process: Process
    network: Denoiser
    cond: Cond
    steps: np.ndarray  # [N] ascending
    last_alpha: str = "first"

    def run(self, sampler: Sampler, x: Array, noises: Array | None, **options) -> Array:
        """The first state and those after each step, (N + 1, B, H, W, C)."""

        @jax.jit
        def whole(x: Array) -> Array:
            given = {"last_alpha": self.last_alpha, "noises": noises if sampler.is_noisy else None, **options}
            return sample(
                self.network, self.process, sampler, self.steps, x, None, self.cond, every=1, **given
            ).intermediates

        return jnp.concatenate([x[None], whole(x)])

    def row(self, sampler: Sampler, index: int) -> dict[str, np.ndarray]:
        """The row of the step from steps[index]."""
        table = sampler.table(self.process, self.steps, self.last_alpha)
        return {name: column[::-1][index] for name, column in table.items()}

    def step(self, sampler: Sampler, x: Array, noise: Array, index: int) -> tuple[Array, Array]:
        """The state after the step from steps[index], and the x0 that it believes in."""
        row = self.row(sampler, index)
        prediction = self.network(x, Step(t=jnp.asarray(row["t"])), self.cond)
        return sampler.step(x, prediction, row, noise), prediction.x0


def run_ddim(wanted: Mapping, io: Mapping[str, Array], plain: Setting, guided: Setting) -> dict[str, Array]:
    """Steps and runs for each eta and temperature among the names of what is wanted."""
    out, x, noises, index = {}, io["x"], io["noise_sequence"], int(io["ddim_step_index"][0])
    keep = keep_known(plain.process, io["x0"], io["mask"], None, noises=io["mask_q_noise_sequence"])
    for eta in found(r"ddim_sigmas_eta(\d+)", wanted):
        sampler = ddim(decimal(eta))
        for name, setting in (("", plain), ("cfg_", guided)):
            out[f"ddim_traj_{name}eta{eta}"] = states = setting.run(sampler, x, noises)
            out[f"ddim_sample_{name}eta{eta}"] = states[-1]
            step = f"ddim_step_{name}eta{eta}"
            out[f"{step}_x_prev"], out[f"{step}_pred_x0"] = setting.step(sampler, x, io["noise"], index)
        for text in found(rf"ddim_step_temp(\d+)_eta{eta}_x_prev", wanted):
            warm = ddim(decimal(eta), temperature=decimal(text))
            out[f"ddim_step_temp{text}_eta{eta}_x_prev"], _ = plain.step(warm, x, io["noise"], index)
        out[f"ddim_last_step_eta{eta}_x_prev"], _ = plain.step(sampler, x, io["noise"], 0)
        out[f"ddim_sample_masked_eta{eta}"] = plain.run(sampler, x, noises, before_step=keep)[-1]
    return out


def run_plms(io: Mapping[str, Array], plain: Setting, guided: Setting) -> dict[str, Array]:
    """Runs, and one step with each number of remembered eps."""
    out, x, old, sampler = {}, io["x"], io["plms_old_eps"], plms()
    for name, setting in (("", plain), ("_cfg", guided)):
        out[f"plms_traj{name}"] = states = setting.run(sampler, x, None)
        out[f"plms_sample{name}"] = states[-1]

    def ask(z: Array, t: Array) -> Array:
        return plain.network(z, Step(t=t), plain.cond)

    row = plain.row(sampler, int(io["plms_step_index"][0]))
    for order in range(len(old) + 1):
        memory = sampler.memory(x).at[:order].set(old[:order][::-1])
        own = row | {"order": jnp.int32(order)}
        corrected, memory = sampler.correct(x, ask(x, jnp.asarray(row["t"])), memory, own, ask)
        out[f"plms_step_{order}_x_prev"] = sampler.step(x, corrected, own)
        out[f"plms_step_{order}_pred_x0"], out[f"plms_step_{order}_e_t"] = corrected.x0, memory[0]
    return out


def run_ancestral(io: Mapping[str, Array], setting: Setting) -> Array:
    """The states of a walk through all steps of a process, with the noises of that length."""
    num_steps = setting.process.num_steps
    whole = dataclasses.replace(setting, steps=timesteps(num_steps, num_steps), last_alpha="one")
    return whole.run(ancestral("small"), io["x"], io[f"ddpm_loop_T{num_steps}_noise"])


def found(pattern: str, names: Mapping) -> list[str]:
    """What the pattern's group is in the names that it matches."""
    matches = (re.fullmatch(pattern, name) for name in names)
    return [match[1] for match in matches if match]


def decimal(digits: str) -> float:
    """The number of a name: "05" is 0.5 and "1" is 1."""
    return float(f"{digits[0]}.{digits[1:]}0")
