"""What LDM-1, -2, -4 and -8 cost with equally many parameters: training and sampling (figures 6, 7 and table 6)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from report import Row, spread
from tqdm import tqdm

from ldm.lab import SEED, Lab, sampling
from ldm.scales import FACTORS, diffusion_config
from pdm_jax.config import Config
from pdm_jax.pipelines.generate import generate, make_generate, nothing_told
from pdm_jax.systems import System, make_system, parts_of
from pdm_jax.systems.latent import FIRST_STAGE, SCALE, make_first_stage
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.state import plan_state
from pdm_jax.training.step import make_train_step, put
from pdm_jax.types import Params


def run(lab: Lab, out: Path) -> list[Row]:
    """Images/s of training and of sampling; `speed-up` is over LDM-1, of times within each round.

    Weights are random. Models take turns, so that other work on the machine slows all alike. Training encodes its
    batches and sampling decodes, with the fewest steps of the scale.
    """
    return measure(lab, {f"LDM-{f}": diffusion_config(lab.scale, f, size=lab.scale.speed_size) for f in FACTORS})


def measure(lab: Lab, configs: Mapping[str, Config]) -> list[Row]:
    """A row for each config; the first is what the others are compared with."""
    built = {name: make_timed(config, lab.scale.sampling_steps[0], lab.mesh) for name, config in configs.items()}
    times = {name: {"train": [], "sample": []} for name in built}
    for _ in tqdm(range(lab.scale.repeats), "rounds"):
        for name, timed in built.items():
            times[name]["train"].append(_seconds(timed.train))
            times[name]["sample"].append(_seconds(timed.sample))
    first = next(iter(built))
    rows = []
    for name, timed in built.items():
        row = {"model": name, "state": "x".join(map(str, timed.shape))}
        for what, seconds in times[name].items():
            row[f"{what} images/s"] = spread(timed.batch_size / np.array(seconds))
            row[f"{what} speed-up"] = spread(np.array(times[first][what]) / seconds)
        rows.append(row)
    return rows


@dataclasses.dataclass(frozen=True)
class Timed:
    """A model with random weights, compiled."""

    shape: tuple[int, ...]  # (h, w, c) of what is diffused
    batch_size: int
    train: Callable[[], Any]  # a step
    sample: Callable[[], Any]  # a batch


def make_timed(config: Config, steps: int, mesh: Mesh) -> Timed:
    """Compiles and tries a config's training and its sampling in so many steps of DDIM.

    A step of a split model is one of each of its networks.
    """
    system, size = make_system(config), config.data.batch_size
    frozen = random_frozen(config, system)
    trainers = {part.name: Trainer(part.config, frozen, mesh) for part in parts_of(config)}
    # A training step consumes its state.
    params = {name: jax.tree.map(jnp.copy, each.state.params) for name, each in trainers.items()}
    params = {**params.pop("", params), **frozen}
    draw, told = make_generate(system, sampling(steps), mesh), nothing_told(system, size)

    def train() -> Any:
        return [each() for each in trainers.values()]

    def sample() -> Any:
        return list(generate(draw, params, SEED, size, told, mesh, batch_size=size))

    jax.block_until_ready((train(), sample()))
    return Timed(system.image_shape, size, train, sample)


class Trainer:
    """A training step of one network, on the same black images at every call."""

    def __init__(self, config: Config, frozen: Params, mesh: Mesh):
        system, optimizer, size = make_system(config), make_optimizer(config.optimizer), config.data.batch_size
        plan = plan_state(system, optimizer, config.ema, mesh)
        self._step = make_train_step(system, optimizer, config, mesh, plan)
        own = jax.tree.map(jnp.copy, frozen)
        self.state = dataclasses.replace(plan.init(jax.random.key(SEED)), frozen=own)
        self._batch = put({"image": np.zeros((size, *system.space.picture), np.uint8)}, system, mesh)

    def __call__(self) -> Any:
        self.state, metrics = self._step(self.state, self._batch)
        return metrics


def random_frozen(config: Config, system: System) -> Params:
    """A first stage with initial weights, where the system has one."""
    if FIRST_STAGE not in system.frozen:
        return {}
    definition, _, _ = make_first_stage(config.latent, config.data.channels)
    return {FIRST_STAGE: jax.jit(definition.init)(jax.random.key(SEED)), SCALE: jnp.float32(1)}


def _seconds(function: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - begin
