"""Section 4.3: the memory that an image of 1024x1024 needs with P = 4 and with P = 1."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.stages import Lowered
from report import Row

from paper.lab import Lab, make_config
from pdm_jax.config import Config, DataConfig
from pdm_jax.networks import count_params
from pdm_jax.systems import make_system
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.state import plan_state
from pdm_jax.training.step import make_train_step
from pdm_jax.types import Cond, Step

# Patch size, width and channel_mult. All end on the same grid (8x8 for 1024x1024) and are as wide there, with one block
# a level. "thin" starts two levels earlier and four times as narrow, as unpatched networks for such images do; "wide"
# is the patched network with two more levels on top.
_NETWORKS = {
    "P = 4": (4, 128, (1,) * 6),
    "P = 1, thin": (1, 32, (1, 2, 4, 4, 4, 4, 4, 4)),
    "P = 1, wide": (1, 128, (1,) * 8),
}
_CASES = [("forward", name) for name in _NETWORKS] + [("train step", name) for name in ("P = 4", "P = 1, thin")]


def run(lab: Lab, out: Path) -> list[Row]:
    """MiB of temporary memory for one image, P = 4 and P = 1, by the compiler's own analysis; nothing is run.

    It is what a program needs beside its arguments and results, that is the activations; the networks are so small
    that gradients do not count. The compiler is that of the device here. (The paper: the largest batches that one GPU
    holds.)
    """
    del out  # numbers only
    rows, patched = [], {}
    for program, name in _CASES:
        config = _config(lab, *_NETWORKS[name])
        temporary = _temporary(program, config, lab)
        patched.setdefault(program, temporary)
        rows.append(
            {
                "program": program,
                "network": name,
                "parameters": count_params(make_system(config).shapes),
                "MiB": temporary,
                "times P = 4": temporary / patched[program],
            }
        )
    return rows


def _config(lab: Lab, patch_size: int, width: int, channel_mult: tuple[int, ...]) -> Config:
    config = make_config(DataConfig("memory", lab.scale.memory_size, batch_size=1), patch_size)
    network = dict(config.model.network, width=width, channel_mult=channel_mult, num_blocks=1)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, network=network))


def _temporary(program: str, config: Config, lab: Lab) -> float:
    """MiB of the compiled program."""
    lowered = _forward(config) if program == "forward" else _train_step(config, lab)
    return lowered.compile().memory_analysis().temp_size_in_bytes / 2**20


def _forward(config: Config) -> Lowered:
    system = make_system(config)
    z_t = jax.ShapeDtypeStruct(_batch_shape(config), jnp.float32)
    x0_hat = jax.jit(lambda params, z_t: system.denoiser(params)(z_t, Step(t=jnp.int32(0)), Cond()).x0)
    return x0_hat.lower(system.shapes, z_t)


def _train_step(config: Config, lab: Lab) -> Lowered:
    system, optimizer = make_system(config), make_optimizer(config.optimizer)
    plan = plan_state(system, optimizer, config.ema, lab.mesh)
    step = make_train_step(system, optimizer, config, lab.mesh, plan)
    return step.lower(plan.shapes, {"image": jax.ShapeDtypeStruct(_batch_shape(config), jnp.uint8)})


def _batch_shape(config: Config) -> tuple[int, int, int, int]:
    size = config.data.image_size
    return config.data.batch_size, size, size, config.data.channels
