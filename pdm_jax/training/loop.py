"""The training loop: data, step, reports, checkpoints, in that order, until done or told to stop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from pdm_jax.checkpoints import Checkpoints, open_workdir, parts_in
from pdm_jax.checkpoints.failures import disk_errors
from pdm_jax.config import Config, to_dict
from pdm_jax.data import Dataset
from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.systems import Part, System, make_system, parts_of
from pdm_jax.training.codes import check_table, with_first_codes, with_table_size
from pdm_jax.training.frozen import make_frozen, with_first_stage
from pdm_jax.training.guard import guarded
from pdm_jax.training.heartbeat import Heartbeat
from pdm_jax.training.interrupt import StopSignal
from pdm_jax.training.measure import Measure, make_measure
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.overview import describe
from pdm_jax.training.preview import Preview, make_preview
from pdm_jax.training.profile import Profile, check_window
from pdm_jax.training.reports import Reports
from pdm_jax.training.resume import Position, begin, load_weights, warm_weights
from pdm_jax.training.state import TrainState, plan_state
from pdm_jax.training.step import make_train_step, put
from pdm_jax.training.window import Window
from pdm_jax.types import Params

logger = logging.getLogger(__name__)


def train(
    config: Config,
    workdir: str | Path,
    dataset: Dataset,
    *,
    part: str | None = None,
    init_from: str | None = None,
    force_config: bool = False,
    profile: tuple[int, int] | None = None,
    stop: StopSignal | None = None,
) -> int:
    """Trains until `config.train.num_steps`, from wherever `workdir` left off; the parts of a split model in turn.

    Args:
      config: the run.
      workdir: folder for checkpoints and reports; made where it does not exist. A part of a split model has a folder
        of its own for reports.
      dataset: infinite batches.
      part: trains this part of a split model alone; None trains all that are not complete, the noisiest first.
      init_from: workdir whose averaged weights a new run starts from, with its first stage if it has one; of a split
        model, its first part.
      force_config: go on although the config differs from the workdir's in what changes training.
      profile: traces these steps, from the first to the last, into `profile/`.
      stop: tells afterwards which signal ended the training early, if one did.

    Returns:
      The step reached by the part that was trained last: its `num_steps`, or less when a SIGTERM or SIGINT asked to
      stop (a checkpoint is saved).

    Raises:
      UserError: the config does not fit itself, the data or the workdir; a write failed; the loss is not finite.
    """
    config = with_first_stage(with_table_size(config, dataset), workdir, init_from)
    parts, workdir = parts_of(config), open_workdir(workdir)
    chosen = [each for each in parts if part in (None, each.name)]
    if not chosen:
        names = ", ".join(each.name for each in parts if each.name)
        raise UserError(f"this model has no part {part!r}; " + (f"it has {names}" if names else "it is not split"))
    systems = {each.name: make_system(each.config) for each in parts}
    for each in parts:
        _check_data(each.config, systems[each.name], dataset)
    for each in chosen:
        check_window(profile, each.config.train.num_steps)
    _check_layout(workdir, parts)
    step = 0
    with stop or StopSignal() as stop:
        for each in chosen:
            weights = _first_weights(each, parts, config, workdir, init_from, dataset)
            system = systems[each.name]
            step = _train_part(each, system, config, workdir, dataset, stop, weights, init_from, force_config, profile)
            if step < each.config.train.num_steps:
                break
    return step


def _first_weights(
    part: Part, parts: Sequence[Part], config: Config, workdir: Path, init_from: str | None, dataset: Dataset
) -> Callable[[Params], Params]:
    """What a part that begins makes of its initial weights: another run's, those of the part before, or themselves."""
    number = parts.index(part)

    def weights(initial: Params) -> Params:
        if number == 0:
            return with_first_codes(config, dataset, initial) if init_from is None else load_weights(init_from, initial)
        before = parts[number - 1]
        if not config.split.warm_start:
            return initial
        if _is_complete(workdir, before):
            return warm_weights(workdir, before, part, initial)
        logger.warning("%s starts from nothing: %s is not complete in %s", part.name, before.name, workdir)
        return initial

    return weights


def _is_complete(workdir: Path, part: Part) -> bool:
    """Whether a part was trained to its end; one that trains elsewhere at this moment is not."""
    with Checkpoints(workdir, part=part.name) as checkpoints:
        return (checkpoints.steps() or [-1])[-1] >= part.config.train.num_steps


def _train_part(
    part: Part,
    system: System,
    whole: Config,
    workdir: Path,
    dataset: Dataset,
    stop: StopSignal,
    weights: Callable[[Params], Params],
    init_from: str | None,
    force_config: bool,
    profile: tuple[int, int] | None,
) -> int:
    """Trains one part, or all there is, until it is complete or told to stop; returns the step reached."""
    config = part.config
    mesh, optimizer = make_mesh(config.mesh), make_optimizer(config.optimizer)
    plan = plan_state(system, optimizer, config.ema, mesh)
    train_step = make_train_step(system, optimizer, config, mesh, plan)
    preview = make_preview(part, system, mesh, dataset) if config.train.grid_every else None
    folder = workdir / part.name
    measure = make_measure(part, system, mesh, dataset, folder)
    with Checkpoints(workdir, config.checkpoint, part=part.name) as checkpoints:
        batches = iter(dataset)
        frozen = make_frozen(config, system, dataset, mesh, init_from)
        position = begin(part, plan, checkpoints, batches, weights=weights, frozen=frozen, force_config=force_config)
        with disk_errors(workdir):
            folder.mkdir(parents=True, exist_ok=True)
            describe(part, system, dataset, mesh, folder)
            run = _Run(config, to_dict(whole), checkpoints, folder, position, preview, measure)
        trace = Profile(folder / "profile", profile, step=run.step)
        try:
            while run.step < config.train.num_steps:
                batch = put(next(batches), system, mesh)
                trace.before(run.step + 1)
                with guarded():
                    state, metrics = train_step(run.state, batch)
                trace.after(run.step + 1, metrics)
                stopping = run.step + 1 < config.train.num_steps and stop.agreed()
                run.after_step(state, metrics, batches, last=stopping)
                if stopping:
                    logger.info("stopped at step %d; the same command goes on from there", run.step)
                    break
        finally:
            trace.close()
            run.reports.close()
            batches.close()
    return run.step


class _Run:
    """What happens after each step: averaging, measuring, reports, previews and checkpoints, each at its interval."""

    def __init__(
        self,
        config: Config,
        saved_config: dict[str, Any],  # of the whole model, if this trains a part of it
        checkpoints: Checkpoints,
        folder: Path,
        position: Position,
        preview: Preview | None,
        measure: Measure | None,
    ):
        self.config, self.checkpoints = config, checkpoints
        self.state, self.step, self.host_ema = position.state, position.step, position.host_ema
        self.reports = Reports(folder, first_step=self.step, last_step=config.train.num_steps)
        self.window = Window(config.data.batch_size)
        self._heartbeat = Heartbeat(
            folder,
            batch_size=config.data.batch_size,
            num_steps=config.train.num_steps,
            silent=self.reports.has_bar,
        )
        self._saved_config, self._preview, self._measure = saved_config, preview, measure

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
                score = f"eval_{self.config.eval.metric}", self._measure(self._averaged())
        if self.step % train.log_every == 0 or last or score is not None:
            self._log(dict([score]) if score else {})
        with self.window.paused():
            if self.step % self.config.checkpoint.save_every == 0 or last or score is not None:
                self.save(batches, score)
            if self._preview and (self.step % train.grid_every == 0 or self.step == train.num_steps):
                self.reports.grid(self.step, self._preview(self._averaged()))
        self._heartbeat.beat(self.step, self.window.newest, last=last)

    def save(self, batches: Any, score: tuple[str, float] | None) -> None:
        """Starts writing a checkpoint of this moment; raises `UserError` if the weights are not finite."""
        self._check_finite(self.window.newest())
        state = self.state.as_dict()
        if self.host_ema is not None:
            state["ema"] = self.host_ema.values
        self.checkpoints.save(self.step, state, batches.state(), self._saved_config, score)

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

    def _averaged(self) -> Params:
        """The averaged weights with the frozen ones beside them."""
        ema = self.state.ema if self.host_ema is None else self.host_ema.values
        return {**ema, **self.state.frozen}


def _check_layout(workdir: Path, parts: Sequence[Part]) -> None:
    """Refuses to mix a split model and one that is not in a workdir."""
    with Checkpoints(workdir) as checkpoints:
        is_single = bool(checkpoints.steps())
    found = set(parts_in(workdir)) - {part.name for part in parts}
    if found or (is_single and parts[0].name):
        holds = f"the parts {', '.join(sorted(found))}" if found else "a model that is not split"
        raise UserError(f"{workdir} holds {holds}, which this config.split does not make; choose another --workdir")


def _check_data(config: Config, system: System, dataset: Any) -> None:
    check_table(config, dataset)
    if dataset.batch_size != config.data.batch_size:
        raise UserError(
            f"config.data.batch_size is {config.data.batch_size}, but {dataset.name} gives {dataset.batch_size} images"
        )
    if system.num_classes and dataset.num_classes != system.num_classes:
        raise UserError(
            f"config.model.num_classes is {system.num_classes}, but {dataset.name} has {dataset.num_classes} classes; "
            f"set it to {dataset.num_classes}" + ("" if dataset.num_classes else " (unconditional)")
        )
