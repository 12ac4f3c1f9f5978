"""The points of a sweep one after the other, each trained and evaluated by processes of its own."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from pdm_jax.cli.sampling_flags import digest
from pdm_jax.cli.sweep_points import Point
from pdm_jax.cli.sweep_progress import Progress, read_note, write_note
from pdm_jax.config import to_dict
from pdm_jax.errors import UserError

_LOOK_EVERY = 5.0  # seconds between two looks at a child
_PDM = (sys.executable, "-m", "pdm_jax.cli")
_ERROR = re.compile(r"pdm: (.+)|([\w.]*(?:Error|Exception)\b.*)")


class Runs:
    """How the points of a sweep are run."""

    def __init__(self, config: Sequence[str], evaluation: Sequence[str], cache: Path):
        """What the points have in common.

        Args:
          config: arguments of `pdm train` that name it.
          evaluation: arguments of `pdm eval`.
          cache: of the evaluations: one, so that one network judges all points.
        """
        self._config, self._evaluation, self._cache = list(config), list(evaluation), cache

    def commands(self, point: Point) -> dict[str, list[str]]:
        """The arguments of `pdm` that train and evaluate a point."""
        workdir = f"--workdir={point.folder}"
        return {
            "train": ["train", *self._config, *point.settings, workdir],
            "eval": ["eval", workdir, *self._evaluation, f"--cache={self._cache}"],
        }

    def shell(self, point: Point) -> str:
        """The same as one line of a shell."""
        return " && ".join(shlex.join(["pdm", *arguments]) for arguments in self.commands(point).values())

    def is_done(self, point: Point) -> bool:
        """Whether a point was run to its end as it is asked for now."""
        return read_note(point.folder) == {"asked": self._asked(point), "error": None}

    def run(self, point: Point, children: Children, show: Callable[[str], None]) -> str | None:
        """Runs or resumes a point; returns why it failed in one line, or None.

        Raises:
          UserError: another process is running this point.
          KeyboardInterrupt: the user asked to stop; the point can be resumed.
        """
        point.folder.mkdir(exist_ok=True)
        write_note(point.folder, {})  # an error of the last run is out of date
        for name, arguments in self.commands(point).items():
            error = children.run(arguments, point.folder / f"{name}.log", lambda name=name: show(_where(point, name)))
            if error is None and not Progress(point).is_trained:
                error = f"stopped at step {Progress(point).position}"
            if error is not None:
                error = f"{name}: {error}"
                break
        write_note(point.folder, {"asked": self._asked(point), "error": error})
        return error

    def _asked(self, point: Point) -> str:
        return digest({"config": to_dict(point.config), "eval": self._evaluation})


class Children:
    """Processes of `pdm`, one at a time. In the `with` block SIGINT and SIGTERM go to the one that runs.

    The first asks it to stop, so that training saves; the next ends it.
    """

    def __init__(self):
        self._child: subprocess.Popen | None = None
        self._stopping = False

    def __enter__(self) -> Children:
        self._previous = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def run(self, arguments: Sequence[str], log: Path, look: Callable[[], None]) -> str | None:
        """Runs `pdm ARGUMENTS` with its output added to a log; `look` is called now and then.

        Returns:
          Why it failed, in one line; None if it did not.

        Raises:
          UserError: another process writes this log.
          KeyboardInterrupt: the user asked to stop, and the child has ended.
        """
        command = [*_PDM, *arguments]
        with log.open("ab") as out:
            _lock(out)
            start = out.tell()
            # A session of its own: a terminal's Ctrl-C would reach the child beside what is passed on to it.
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
            while self._child.poll() is None:
                look()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.wait(_LOOK_EVERY)
        status, self._child = self._child.returncode, None
        if self._stopping:
            raise KeyboardInterrupt
        return None if status == 0 else _reason(log, start, status)

    def _stop(self, *_: Any) -> None:
        if self._child is None:
            raise KeyboardInterrupt
        if self._stopping:
            self._child.kill()
        else:
            self._child.terminate()
        self._stopping = True


def _where(point: Point, command: str) -> str:
    """`patch_size=2: train, step 120 of 1000`."""
    return f"{point.name}: {command}" + (f", step {Progress(point).position}" if command == "train" else "")


def _lock(log: IO) -> None:
    """Locks a log for as long as a process has it open: a child that outlived a killed sweep, too."""
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"another process is writing {log.name}; wait for it, or end it") from None


def _reason(log: Path, start: int, status: int) -> str:
    """The error that a log ends with, of what was written from byte `start` on."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    text = log.read_bytes()[start:].decode(errors="replace")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    errors = [match[1] or match[2] for match in map(_ERROR.match, lines) if match]
    return (errors or lines or [f"exit status {status}"])[-1]
