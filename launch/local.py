"""Several processes on this machine as if they were several hosts: to try on a laptop what a pod will run.

  python launch/local.py --processes=2 --logs=runs/two -- pdm train --config=configs/quickstart.py --workdir=runs/two

Each finds the others by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, and computes on the CPU unless
JAX_PLATFORMS says otherwise. When one fails the others are ended; SIGTERM and Ctrl-C are passed on to all.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_LOOK_EVERY = 0.05  # seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the processes; returns 0, the exit code of the first that failed, or 2 after a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="how many (default: 2)")
    parser.add_argument("--logs", type=Path, required=True, metavar="DIR", help="folder of 0.log, 1.log, ...")
    parser.add_argument("--grace", type=float, default=60, metavar="SECONDS", help="to save in (default: 60)")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what each runs, after --")
    args = parser.parse_args(argv)
    if args.processes < 1:
        print(f"local: --processes is {args.processes}; expected at least 1", file=sys.stderr)
        return 2
    group = Group(args.grace)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: group.stop(number))
    try:
        group.start(args.command, args.processes, args.logs)
    except OSError as error:
        group.stop(signal.SIGTERM)
        group.wait()
        print(f"local: cannot start: {error}", file=sys.stderr)
        return 2
    return group.wait()


class Group:
    """Processes that end together."""

    def __init__(self, grace: float):
        """`grace` is how many seconds a process has to end by itself once it is asked to."""
        self._grace = grace
        self._processes: dict[subprocess.Popen, Path] = {}  # and the log of each
        self._deadline: float | None = None  # of the grace, once it has begun

    def start(self, command: Sequence[str], num: int, logs: Path) -> None:
        """Starts `num` processes of a command; what they print is added to `logs`/0.log, `logs`/1.log, ...

        Raises:
          OSError: there is no such command, or a log cannot be written.
        """
        logs.mkdir(parents=True, exist_ok=True)
        shared = {"JAX_COORDINATOR_ADDRESS": f"localhost:{_free_port()}", "JAX_NUM_PROCESSES": str(num)}
        for index in range(num):
            environment = {"JAX_PLATFORMS": "cpu", **os.environ, **shared, "JAX_PROCESS_ID": str(index)}
            path = logs / f"{index}.log"
            with path.open("ab") as log:
                # A session of its own: a terminal's Ctrl-C would reach it beside what is passed on.
                process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            self._processes[process] = path

    def stop(self, number: int) -> None:
        """Asks all that run to end, by a signal."""
        self._deadline = self._deadline or time.monotonic() + self._grace
        for process in self._processes:
            process.send_signal(number)  # does nothing to one that has ended

    def wait(self) -> int:
        """Returns 0 when all have ended well, or the exit code of the first that did not: 128 + N after signal N."""
        first = 0
        while running := [process for process in self._processes if process.poll() is None]:
            first = first or self._failure()
            if first and self._deadline is None:
                self.stop(signal.SIGTERM)
            if self._deadline is not None and time.monotonic() > self._deadline:
                for process in running:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)  # and what it has started
            time.sleep(_LOOK_EVERY)
        return first or self._failure()

    def _failure(self) -> int:
        """The exit code of a process that has failed, which is told; 0 if none has."""
        for process, log in self._processes.items():
            if process.poll():  # neither running nor ended well
                code = process.returncode if process.returncode > 0 else 128 - process.returncode
                print(f"process {process.pid} ended with exit code {code}; see {log}", file=sys.stderr)
                return code
        return 0


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
