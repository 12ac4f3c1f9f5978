"""The training loop: data, step, reports, checkpoints, in that order, until done or told to stop."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pdm_jax.checkpoints import Checkpoints, open_workdir
from pdm_jax.checkpoints.failures import disk_errors
from pdm_jax.config import Config, to_dict
from pdm_jax.errors import UserError
from pdm_jax.ops.images import grid
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.generate import Generate, choose_labels, generate, make_generate
from pdm_jax.systems import System, make_system
from pdm_jax.training.interrupt import StopSignal
from pdm_jax.training.measure import Measure, make_measure
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.overview import describe
from pdm_jax.training.reports import Reports
from pdm_jax.training.resume import Position, begin
from pdm_jax.training.state import TrainState, plan_state
from pdm_jax.training.step import make_train_step, put
from pdm_jax.training.window import Window
from pdm_jax.types import Params

logger = logging.getLogger(__name__)


def train(
    config: Config,
    workdir: str | Path,
    dataset: Any,
    *,
    init_from: str | None = None,
    force_config: bool = False,
) -> int:
    """Trains until `config.train.num_steps`, from wherever `workdir` left off.

    Args:
      config: the run.
      workdir: folder for checkpoints and reports; made where it does not exist.
      dataset: infinite batches, `pdm_jax.data.Dataset`.
      init_from: workdir whose averaged weights a new run starts from.
      force_config: go on although the config differs from the workdir's in what changes training.

    Returns:
      The step reached: `num_steps`, or less when a SIGTERM or SIGINT asked to stop (a checkpoint is saved).

    Raises:
      UserError: the config does not fit itself, the data or the workdir; a write failed; the loss is not finite.
    """
    system, mesh = make_system(config), make_mesh(config.mesh)
    _check_data(config, system, dataset)
    optimizer = make_optimizer(config.optimizer)
    plan = plan_state(system, optimizer, config.ema, mesh)
    train_step = make_train_step(system, optimizer, config, mesh, plan)
    grids = make_generate(system, config.sample, mesh)  # compiled when first called
    labels = choose_labels("cycle", config.train.grid_size, system.num_classes)
    workdir = open_workdir(workdir)
    measure = make_measure(config, system, mesh, dataset, grids, workdir)
    with Checkpoints(workdir, config.checkpoint) as checkpoints, StopSignal() as stop:
        batches = iter(dataset)
        position = begin(config, plan, checkpoints, batches, init_from=init_from, force_config=force_config)
        with disk_errors(workdir):
            describe(config, system, dataset, mesh, workdir)
            run = _Run(config, mesh, checkpoints, workdir, position, grids, labels, measure)
        try:
            while run.step < config.train.num_steps:
                batch = put(next(batches), mesh)
                with jax.transfer_guard("disallow"):
                    state, metrics = train_step(run.state, batch)
                stopping = stop.agreed(run.step + 1)
                run.after_step(state, metrics, batches, last=stopping)
                if stopping:
                    logger.info("stopped at step %d; the same command goes on from there", run.step)
                    break
        finally:
            run.reports.close()
            batches.close()
    return run.step


class _Run:
    """What happens after each step: averaging, measuring, reports, grids and checkpoints, each at its interval."""

    def __init__(
        self,
        config: Config,
        mesh: Mesh,
        checkpoints: Checkpoints,
        workdir: Path,
        position: Position,
        grids: Generate,
        labels: np.ndarray | None,  # of the images in a grid
        measure: Measure | None,
    ):
        self.config, self.checkpoints = config, checkpoints
        self.state, self.step, self.host_ema = position.state, position.step, position.host_ema
        self.reports = Reports(workdir, first_step=self.step, last_step=config.train.num_steps)
        self.window = Window(config.data.batch_size)
        self._mesh, self._generate, self._labels, self._measure = mesh, grids, labels, measure

    def after_step(self, state: TrainState, metrics: dict[str, jax.Array], batches: Any, *, last: bool) -> None:
        train = self.config.train
        self.state, self.step = state, self.step + 1
        self.window.add(metrics)
        self.reports.advance()
        if self.host_ema is not None:
            self.host_ema.update(self.step - 1, state.params)
        last = last or self.step == train.num_steps
        score = None
        if self._measure is not None and self.step % self.config.eval.every == 0:
            with self.window.paused():
                score = f"eval_{self.config.eval.metric}", self._measure(self._ema())
        if self.step % train.log_every == 0 or last or score is not None:
            self._log(dict([score]) if score else {})
        with self.window.paused():
            if self.step % self.config.checkpoint.save_every == 0 or last or score is not None:
                self.save(batches, score)
            if train.grid_every and (self.step % train.grid_every == 0 or self.step == train.num_steps):
                self._grid()

    def save(self, batches: Any, score: tuple[str, float] | None) -> None:
        """Starts writing a checkpoint of this moment; raises `UserError` if the weights are not finite."""
        self._check_finite(self.window.newest())
        state = self.state.as_dict()
        if self.host_ema is not None:
            state["ema"] = self.host_ema.values
        self.checkpoints.save(self.step, state, batches.state(), to_dict(self.config), score)

    def _log(self, score: dict[str, float]) -> None:
        values = self.window.take() | score
        self._check_finite(values)
        self.reports.scalars(self.step, values)

    def _check_finite(self, values: dict[str, float]) -> None:
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            kept = self.checkpoints.steps()
            raise UserError(
                f"{', '.join(wrong)} became {values[wrong[0]]} by step {self.step}; "
                f"the last sound checkpoint is {f'step {kept[-1]}' if kept else 'none yet'}. Try a lower "
                "config.optimizer.learning_rate, a longer warmup_steps or a clip_norm"
            )

    def _grid(self) -> None:
        """Samples from the averaged weights, the same noise and labels each time."""
        num = self.config.train.grid_size
        batches = generate(self._generate, self._ema(), self.config.seed, num, self._labels, self._mesh, batch_size=num)
        self.reports.grid(self.step, grid(np.concatenate(list(batches)), self._labels))

    def _ema(self) -> Params:
        return self.state.ema if self.host_ema is None else self.host_ema.values


def _check_data(config: Config, system: System, dataset: Any) -> None:
    if dataset.batch_size != config.data.batch_size:
        raise UserError(
            f"config.data.batch_size is {config.data.batch_size}, but {dataset.name} gives {dataset.batch_size} images"
        )
    if system.num_classes and dataset.num_classes != system.num_classes:
        raise UserError(
            f"config.model.num_classes is {system.num_classes}, but {dataset.name} has {dataset.num_classes} classes; "
            f"set it to {dataset.num_classes}" + ("" if dataset.num_classes else " (unconditional)")
        )
