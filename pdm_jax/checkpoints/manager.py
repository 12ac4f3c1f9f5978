"""The checkpoints of one run: a composite of `state`, `data`, `config` and `checksums` a step, maybe with a score.

Saving is asynchronous and atomic: a step is written under a temporary name and renamed when complete, so a
killed process leaves whole steps only. Restoring falls back from a damaged step to the one before it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from pdm_jax.checkpoints.checks import check_names, check_sums, checksums
from pdm_jax.checkpoints.failures import disk_errors, hushed
from pdm_jax.checkpoints.paths import open_workdir
from pdm_jax.config import CheckpointConfig
from pdm_jax.errors import UserError

logger = logging.getLogger(__name__)
_ITEMS = ("state", "data", "config", "checksums")


@dataclasses.dataclass(frozen=True)
class Restored:
    """One step as it was saved."""

    step: int
    state: Any  # the tree that was asked for
    data: Mapping[str, Any]  # where the data iterator was; empty if the step holds weights only
    checksums: Mapping[str, int]  # of all arrays that were saved, by path: what tells these weights from others


class Checkpoints:
    """The folder `workdir/checkpoints`. Close it, or use it in a `with` statement, to end pending writes.

    The parts of a split model have a folder each inside it, so that they may be trained apart and at once.
    """

    def __init__(self, workdir: str | Path, config: CheckpointConfig | None = None, *, part: str = ""):
        """Opens the checkpoints of a run, or of a part of its model, for reading; with `config` also for writing."""
        self._workdir, self._part = open_workdir(workdir), part
        self.directory = self._workdir / "checkpoints" / part
        self._metric: str | None = None  # of the scores, from the newest checkpoint that has one
        self._open = contextlib.ExitStack()
        writable = config is not None
        if writable:
            keep = [policies.LatestN(config.keep_last)]
            keep += [policies.EveryNSteps(config.keep_every)] if config.keep_every else []
            keep += [policies.BestN(get_metric_fn=self._rank, n=1, keep_checkpoints_without_metrics=False)]
            options = ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(keep),
                best_fn=self._rank,  # without it scores are not written
                cleanup_tmp_directories=True,
            )
        else:
            options = ocp.CheckpointManagerOptions(read_only=True, create=False)
        with disk_errors(self.directory):
            if writable:
                self.directory.mkdir(parents=True, exist_ok=True)
                self._open.enter_context(hushed())
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_names=_ITEMS)
            for step in self.steps():
                self._metric = next(iter(self._manager.metrics(step) or ()), self._metric)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def steps(self) -> list[int]:
        """The steps that are complete, ascending."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """The step with the lowest score by the metric of the newest one that has a score; None without scores."""
        scored = [step for step in self.steps() if self._metric in (self._manager.metrics(step) or ())]
        return max(scored, key=lambda step: self._rank(self._manager.metrics(step)), default=None)

    def find(self, name: str | None) -> int | None:
        """The step that a user names: a number, "best", or None for the newest (which stays None).

        Raises:
          UserError: it is neither, or no checkpoint has a score.
        """
        if name is None or name.isdecimal():
            return None if name is None else int(name)
        if name != "best":
            raise UserError(f"--step is {name!r}; expected a number, or best")
        if (step := self.best()) is None:
            raise UserError(f"no checkpoint of {self.directory} has a score; train with config.eval.every set")
        return step

    def save(
        self,
        step: int,
        state: Any,
        data: Mapping[str, Any],
        config: Mapping[str, Any],
        score: tuple[str, float] | None = None,
    ) -> None:
        """Starts writing a step and returns; arrays may be donated afterwards. A step that exists is left alone.

        Args:
          score: a metric's name and its value here, lower is better; the best checkpoint by it is kept.

        Raises:
          UserError: this write, or the one before it, failed (disk full, not allowed, ...).
        """
        with disk_errors(self.directory):
            if step in self._manager.all_steps():
                return
            if score is not None:
                self._metric = score[0]
            self._manager.save(
                step,
                metrics=None if score is None else dict([score]),
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(state),
                    data=ocp.args.JsonSave(data),
                    config=ocp.args.JsonSave(config),
                    checksums=ocp.args.JsonSave(checksums(state)),
                ),
                force=True,
            )

    def wait(self) -> None:
        """Waits until what was saved is on disk; raises as `save` does."""
        with disk_errors(self.directory):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Ends pending writes; raises as `save` does."""
        with self._open, disk_errors(self.directory):
            self._manager.close()

    def config(self, step: int | None = None) -> dict[str, Any]:
        """The config of a step, by default of the newest whose config can be read.

        Raises:
          UserError: there is none, or not this step.
        """
        if step is not None:
            self._check_step(step)
        for candidate in reversed(self.steps() if step is None else [step]):
            with contextlib.suppress(Exception):
                return self._restore(candidate, config=ocp.args.JsonRestore())["config"]
        raise UserError(
            f"{self.directory} holds no checkpoint that can be read; "
            "train one with: pdm train --config=... --workdir=..."
        )

    def restore(self, template: Any, *, step: int | None = None, partial: bool = False) -> Restored:
        """The newest sound step, or `step`, laid out as `template` says.

        Args:
          template: tree of `ShapeDtypeStruct`s with shardings (restored as `jax.Array`s) or numpy arrays.
          step: one step; None takes the newest and falls back where it is damaged.
          partial: the template is a part of what was saved, the rest is not read.

        Raises:
          UserError: there is no such step, none that can be read, or it is of another network.
        """
        if step is not None:
            self._check_step(step)
        reason = "there is none"
        for candidate in reversed(self.steps() if step is None else [step]):
            try:
                with hushed():
                    return self._read(candidate, template, partial)
            except UserError:
                raise
            except Exception as error:  # whatever damage does to orbax
                reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
                logger.warning("checkpoint %d cannot be restored (%s); trying the one before it", candidate, reason)
        raise UserError(f"no checkpoint of {self.directory} can be restored: {reason}")

    def set_aside(self, after: int) -> None:
        """Renames the steps after `after`, which could not be restored, so that they can be written anew."""
        for step in [step for step in self.steps() if step > after]:
            source, target = (
                self.directory / str(step),
                self._workdir / "-".join(filter(None, ["damaged", self._part, str(step)])),
            )
            if jax.process_index() == 0:
                if target.exists():
                    target.rmtree()
                source.rename(target)
            logger.warning("the damaged checkpoint %d is now %s", step, target)
        multihost_utils.sync_global_devices("damaged checkpoints are set aside")
        self._manager.reload()

    def _rank(self, metrics: Mapping[str, float]) -> float:
        return -metrics.get(self._metric, math.inf)

    def _check_step(self, step: int) -> None:
        if step not in self.steps():
            have = ", ".join(map(str, self.steps())) or "none"
            raise UserError(f"{self.directory} has no checkpoint {step}; it has: {have}")

    def _read(self, step: int, template: Any, partial: bool) -> Restored:
        folder = self.directory / str(step) / "state"
        with ocp.PyTreeCheckpointer() as reader:
            check_names(reader.metadata(folder).item_metadata.tree, template, f"{self.directory / str(step)}")
        restore_args = ocp.checkpoint_utils.construct_restore_args(template)
        state = ocp.args.PyTreeRestore(template, restore_args=restore_args, partial_restore=partial)
        found = self._restore(step, state=state, data=ocp.args.JsonRestore(), checksums=ocp.args.JsonRestore())
        check_sums(found["state"], found["checksums"])
        return Restored(step, found["state"], found["data"], found["checksums"])

    def _restore(self, step: int, **items: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**items))
