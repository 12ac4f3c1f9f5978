"""What LDM-1, -2, -4 and -8 compute, and what composes with LDM-4: counted in traced programs, nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from report import Row

from ldm import composition
from ldm.lab import Lab, sampling
from ldm.scales import FACTORS, diffusion_config
from pdm_jax.config import Config
from pdm_jax.networks import count_params
from pdm_jax.pipelines.generate import make_generate, nothing_told, raw_key
from pdm_jax.planning.flops import program_flops
from pdm_jax.systems import make_system, parts_of
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.state import plan_state
from pdm_jax.training.step import batch_shapes, make_train_step


def run(lab: Lab, out: Path) -> list[Row]:
    """GFLOP of an image, in a training step (of all networks) and in sampling with the fewest steps of the scale.

    The first stage is part of both: it encodes, and decodes. `less` is how many times less than LDM-1 computes.
    """
    scale = lab.scale
    configs = {f"LDM-{f}": diffusion_config(scale, f, size=scale.speed_size) for f in FACTORS}
    rows = [_row(name, config, lab) for name, config in (configs | composition.configs(scale)).items()]
    return [
        row | {f"{what} less": rows[0][f"{what} GFLOP"] / row[f"{what} GFLOP"] for what in _COUNTED} for row in rows
    ]


def _row(name: str, config: Config, lab: Lab) -> Row:
    system = make_system(config)
    found = {what: count(config, lab.mesh, lab.scale.sampling_steps[0]) for what, count in _COUNTED.items()}
    row = {"model": name, "state": "x".join(map(str, system.image_shape)), "parameters": count_params(system.shapes)}
    return row | {f"{what} GFLOP": flops / config.data.batch_size / 1e9 for what, flops in found.items()}


def _training(config: Config, mesh: Mesh, steps: int) -> int:
    total = 0
    for part in parts_of(config):
        system, optimizer = make_system(part.config), make_optimizer(config.optimizer)
        plan = plan_state(system, optimizer, config.ema, mesh)
        step = make_train_step(system, optimizer, part.config, mesh, plan)
        shapes = plan.shapes, batch_shapes(system, config.data.batch_size, mesh)
        total += program_flops(step.trace(*shapes).jaxpr)
    return total


def _sampling(config: Config, mesh: Mesh, steps: int) -> int:
    system, size = make_system(config), config.data.batch_size
    told: Mapping[str, np.ndarray] = nothing_told(system, size)
    draw = make_generate(system, sampling(steps), mesh)
    inputs = system.all_shapes, raw_key(0), np.arange(size, dtype=np.int32), told, None
    return program_flops(jax.make_jaxpr(draw)(*inputs))


_COUNTED = {"train": _training, "sample": _sampling}
