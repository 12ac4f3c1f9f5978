"""How a command runs on its machines: one host or many, compiled programs kept, and ways to find what goes wrong."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from pathlib import Path

import pdm_jax
from pdm_jax.cli.status import FAILED, INTERRUPTED, MISTAKE
from pdm_jax.errors import UserError

_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"  # TPUs and CPUs always are
_CACHE = "compiled"  # in the workdir, which all hosts see and which outlives a preempted one


def add_running_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `start` reads."""
    hosts = parser.add_argument_group("several hosts", "On a TPU pod and in a SLURM step they find each other.")
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0 (default: $JAX_COORDINATOR_ADDRESS)")
    hosts.add_argument(
        "--num-processes", type=int, metavar="N", help="how many there are (default: $JAX_NUM_PROCESSES)"
    )
    hosts.add_argument("--process-id", type=int, metavar="I", help="which this is, from 0 (default: $JAX_PROCESS_ID)")
    hosts.add_argument("--multihost", action="store_true", help="insist on the cluster that JAX detects")
    hosts.add_argument(
        "--join-timeout", type=int, default=300, metavar="SECONDS", help="to wait for the others (default: 300)"
    )
    hosts.add_argument(
        "--lost-after", type=int, default=60, metavar="SECONDS", help="of silence a process is given up (default: 60)"
    )
    group = parser.add_argument_group("running")
    group.add_argument(
        "--compilation-cache",
        metavar="DIR|none",
        help="keeps compiled programs, so that a restart compiles nothing (default: compiled/ in the workdir on "
        "accelerators, none on CPUs)",
    )
    group.add_argument("--debug-nans", action="store_true", help="slow: stop at the first operation that makes a NaN")
    group.add_argument(
        "--deterministic", action="store_true", help="GPUs: the same bits each time; CPUs and TPUs do so without it"
    )


def start(args: argparse.Namespace) -> None:
    """Sets JAX up as the flags say; to be called before anything touches a device.

    Raises:
      UserError: the flags of several hosts are incomplete, or they do not find each other.
    """
    if args.deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DETERMINISTIC}".strip()
    import jax

    from pdm_jax.parallel.hosts import find_hosts, join_hosts

    for name, seconds in (("join-timeout", args.join_timeout), ("lost-after", args.lost_after)):
        if seconds < 1:
            raise UserError(f"--{name} is {seconds}; expected at least 1 second")
    hosts = find_hosts(args.coordinator, args.num_processes, args.process_id, detect=args.multihost)
    if hosts is not None:
        join_hosts(hosts, timeout=args.join_timeout, lost_after=args.lost_after)
        if jax.process_index() != 0:
            logging.getLogger("pdm_jax").setLevel(logging.WARNING)
    if args.debug_nans:
        jax.config.update("jax_debug_nans", True)
    _keep_compiled(args.compilation_cache, args.workdir)


def leave_if_failed(status: int) -> None:
    """Ends a process that failed as one of several, which at a usual exit would wait for the others, and they for it.

    One that was interrupted in sampling or evaluation is such a one; in training all processes stop together.
    """
    if status in (FAILED, MISTAKE, INTERRUPTED) and "jax" in sys.modules:
        from pdm_jax.parallel.hosts import leave_hosts

        leave_hosts(status)


def _keep_compiled(folder: str | None, workdir: str | None) -> None:
    """Turns JAX's compilation cache on where it was asked for, or where compiling takes long; its own variable wins."""
    import jax

    if folder is None and workdir is not None and not jax.config.jax_compilation_cache_dir:
        folder = None if jax.default_backend() == "cpu" else f"{workdir}/{_CACHE}"
    if folder == "none":
        jax.config.update("jax_enable_compilation_cache", False)
    elif folder is not None:
        path = folder if "://" in folder else str(Path(folder).expanduser().absolute())
        jax.config.update("jax_compilation_cache_dir", path)


def describe_nan(error: FloatingPointError) -> str:
    """What `--debug-nans` found and where, in one line; a FloatingPointError comes from nowhere else."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(pdm_jax.__path__[0])]
    at = f" at {ours[-1].filename}:{ours[-1].lineno} in {ours[-1].name}" if ours else ""
    return f"--debug-nans: {error}{at}; the last complete checkpoint is kept"
