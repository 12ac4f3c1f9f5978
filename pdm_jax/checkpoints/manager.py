"""The checkpoints of one run: a composite of `state`, `data` and `config` a step.

Saving is asynchronous and atomic: a step is written under a temporary name and renamed when complete, so a
killed process leaves whole steps only. Restoring falls back from a damaged step to the one before it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from pdm_jax.config import CheckpointConfig
from pdm_jax.errors import UserError

logger = logging.getLogger(__name__)
_ITEMS = ("state", "data", "config")


@dataclasses.dataclass(frozen=True)
class Restored:
    """One step as it was saved."""

    step: int
    state: Any  # the tree that was asked for
    data: Mapping[str, Any]  # where the data iterator was; empty if the step holds weights only


class Checkpoints:
    """The folder `workdir/checkpoints`. Close it, or use it in a `with` statement, to end pending writes."""

    def __init__(self, workdir: str | Path, config: CheckpointConfig | None = None):
        """Opens the checkpoints of a run for reading, or with `config` also for writing."""
        self.directory = _directory(workdir)
        self._open = contextlib.ExitStack()
        writable = config is not None
        if writable:
            keep = [policies.LatestN(config.keep_last)]
            keep += [policies.EveryNSteps(config.keep_every)] if config.keep_every else []
            options = ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(keep), cleanup_tmp_directories=True
            )
        else:
            options = ocp.CheckpointManagerOptions(read_only=True, create=False)
        with self._disk_errors():
            if writable:
                self.directory.mkdir(parents=True, exist_ok=True)
                self._open.enter_context(_hushed())
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_names=_ITEMS)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def steps(self) -> list[int]:
        """The steps that are complete, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, data: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Starts writing a step and returns; arrays may be donated afterwards. A step that exists is left alone.

        Raises:
          UserError: this write, or the one before it, failed (disk full, not allowed, ...).
        """
        with self._disk_errors():
            if step in self._manager.all_steps():
                return
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(state), data=ocp.args.JsonSave(data), config=ocp.args.JsonSave(config)
                ),
                force=True,
            )

    def wait(self) -> None:
        """Waits until what was saved is on disk; raises as `save` does."""
        with self._disk_errors():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Ends pending writes; raises as `save` does."""
        with self._open, self._disk_errors():
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
            f"{self.directory} holds no checkpoint that can be read; train one with: pdm train --config=... --workdir=..."
        )

    def restore(self, template: Any, *, step: int | None = None, partial: bool = False) -> Restored:
        """The newest sound step, or `step`, laid out as `template` says.

        Args:
          template: tree of `ShapeDtypeStruct`s with shardings (restored as `jax.Array`s) or numpy arrays.
          step: one step; None takes the newest and falls back where it is damaged.
          partial: the template is a part of what was saved, the rest is not read.

        Raises:
          UserError: there is no such step, or none that can be read.
        """
        if step is not None:
            self._check_step(step)
        reason = "there is none"
        for candidate in reversed(self.steps() if step is None else [step]):
            try:
                with _hushed():
                    return self._read(candidate, template, partial)
            except Exception as error:  # whatever damage does to orbax
                reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
                logger.warning("checkpoint %d cannot be restored (%s); trying the one before it", candidate, reason)
        raise UserError(f"no checkpoint of {self.directory} can be restored: {reason}")

    def set_aside(self, after: int) -> None:
        """Renames the steps after `after`, which could not be restored, so that they can be written anew."""
        for step in [step for step in self.steps() if step > after]:
            source, target = self.directory / str(step), self.directory.parent / f"damaged-{step}"
            if target.exists():
                target.rmtree()
            source.rename(target)
            logger.warning("the damaged checkpoint %d is now %s", step, target)
        self._manager.reload()

    def _check_step(self, step: int) -> None:
        if step not in self.steps():
            have = ", ".join(map(str, self.steps())) or "none"
            raise UserError(f"{self.directory} has no checkpoint {step}; it has: {have}")

    def _read(self, step: int, template: Any, partial: bool) -> Restored:
        restore_args = ocp.checkpoint_utils.construct_restore_args(template)
        state = ocp.args.PyTreeRestore(template, restore_args=restore_args, partial_restore=partial)
        found = self._restore(step, state=state, data=ocp.args.JsonRestore())
        jax.block_until_ready(found["state"])
        return Restored(step, found["state"], found["data"])

    def _restore(self, step: int, **items: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**items))

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Turns what a full or forbidden disk raises, in this thread or the writing one, into one line."""
        try:
            yield
            return
        except UserError:
            raise
        except Exception as error:
            cause = _os_error(error)
            if cause is None:
                raise
        # Raised out here, it holds no frames of the failed write: they end while what they print is silenced.
        raise UserError(
            f"cannot write checkpoints to {self.directory}: {cause}; complete earlier checkpoints are kept. "
            "Free space or choose another --workdir, then run the same command to go on"
        )


def _directory(workdir: str | Path) -> Any:
    """`workdir/checkpoints` as an absolute path; epath knows cloud buckets, pathlib does not."""
    from etils import epath

    path = epath.Path(workdir)
    return (path if "://" in str(workdir) else path.expanduser().resolve()) / "checkpoints"


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Silences the reads or writes that go on in orbax's closed event loop after the first one has failed."""
    asyncio_logger, hook = logging.getLogger("asyncio"), sys.unraisablehook
    disabled = asyncio_logger.disabled
    asyncio_logger.disabled, sys.unraisablehook = True, lambda unraisable: _report_unless_closed(unraisable, hook)
    try:
        yield
    except Exception:
        time.sleep(0.5)  # the others end
        raise
    finally:
        gc.collect()
        asyncio_logger.disabled, sys.unraisablehook = disabled, hook


def _report_unless_closed(unraisable: Any, report: Callable[[Any], None]) -> None:
    if "Event loop is closed" not in str(unraisable.exc_value):
        report(unraisable)


def _os_error(error: BaseException | None) -> str | None:
    """The system's words for a failed write, from an exception or those it came from."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        if match := re.search(r"os_error_code='(\d+)'", str(error)):  # how tensorstore says it
            return os.strerror(int(match[1]))
        error = error.__cause__ or error.__context__
    return None
