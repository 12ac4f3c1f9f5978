"""Several hosts as one machine: each runs the same command as a process of its own, and JAX joins their devices."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping

import jax

from pdm_jax.errors import UserError
from pdm_jax.machine import has_tpu

_POD = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/worker-network-endpoints"


@dataclasses.dataclass(frozen=True)
class Hosts:
    """Who takes part; all None where JAX's own detection is to find it out."""

    coordinator: str | None = None  # HOST:PORT at which process 0 listens
    num_processes: int | None = None
    process_id: int | None = None  # of this process, from 0


def find_hosts(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    detect: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Hosts | None:
    """The hosts that are named, or that the environment shows; None if this process is alone.

    What is not given is taken from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. Without any of them,
    the tasks of a SLURM step and the hosts of a TPU pod (TPU VM, GKE) are found if there are several.

    Args:
      detect: leave it to JAX, which knows more clusters, and insist that there is one.

    Raises:
      UserError: only some of the three are there, or they do not fit each other.
    """
    given = {
        "--coordinator": coordinator or environ.get("JAX_COORDINATOR_ADDRESS"),
        "--num-processes": _number(num_processes, "JAX_NUM_PROCESSES", environ),
        "--process-id": _number(process_id, "JAX_PROCESS_ID", environ),
    }
    missing = [flag for flag, value in given.items() if value is None]
    if detect or len(missing) == len(given):
        return Hosts() if detect or _shows_several(environ) else None
    if missing:
        raise UserError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; several hosts need "
            f"{', '.join(given)}, or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        )
    hosts = Hosts(*given.values())
    if not re.fullmatch(r"\S+:\d{1,5}", hosts.coordinator):
        raise UserError(f"--coordinator is {hosts.coordinator!r}; expected HOST:PORT, such as 10.0.0.1:1234")
    if not 0 <= hosts.process_id < hosts.num_processes:
        raise UserError(
            f"--process-id is {hosts.process_id} of --num-processes={hosts.num_processes}; "
            f"expected 0 to {max(hosts.num_processes, 1) - 1}"
        )
    return hosts


def join_hosts(hosts: Hosts, *, timeout: int, lost_after: int) -> None:
    """Makes this process one of several; call it before anything touches a device.

    Where the others do not come within `timeout` seconds, the process ends with one line and status 1: that may pass.
    Where one is not heard of for `lost_after` seconds later on, JAX aborts the others.

    Raises:
      UserError: no cluster is detected, or the coordinator cannot listen at its address.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from us
    if hosts.process_id == 0:
        _check_port(hosts.coordinator)
    with _patience(hosts, timeout):
        try:
            jax.distributed.initialize(
                hosts.coordinator,
                hosts.num_processes,
                hosts.process_id,
                cluster_detection_method=None if hosts.coordinator is None else "deactivate",
                initialization_timeout=timeout + 60,  # at its own time-out JAX aborts
                heartbeat_timeout_seconds=lost_after,
            )
        except (ValueError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"JAX cannot join the hosts ({reason}); name them with --coordinator, --num-processes and --process-id"
            ) from error
    if _tasks_of_node(os.environ) == 1:
        jax.config.update("jax_cuda_visible_devices", "all")  # JAX gives each SLURM task one GPU of its node


def leave_hosts(status: int) -> None:
    """Ends a process that failed, if it is one of several, at once: at a usual exit JAX would wait for the others."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _number(value: int | None, name: str, environ: Mapping[str, str]) -> int | None:
    text = environ.get(name)
    if value is not None or text is None:
        return value
    if not text.isdecimal():
        raise UserError(f"{name} is {text!r}; expected a number")
    return int(text)


def _shows_several(environ: Mapping[str, str]) -> bool:
    """Whether the environment is that of one of several processes."""
    if all(name in environ for name in ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")):
        return int(environ.get("SLURM_NTASKS", 1)) > 1
    if not has_tpu():
        return False
    workers = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES") or _pod_workers()
    return "," in workers or int(environ.get("MEGASCALE_NUM_SLICES", 1)) > 1


def _pod_workers() -> str:
    """The hosts of a TPU VM's pod, joined by commas, from Google's metadata server; "" elsewhere."""
    request = urllib.request.Request(_POD, headers={"Metadata-Flavor": "Google"})
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as response:
        return response.read().decode()
    return ""


def _tasks_of_node(environ: Mapping[str, str]) -> int | None:
    """Tasks that a SLURM step has on each node: 1 of `1` and `1(x4)`; None outside of one."""
    match = re.fullmatch(r"(\d+)(\(x\d+\))?", environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return int(match[1]) if match else None


def _check_port(coordinator: str) -> None:
    port = int(coordinator.rpartition(":")[2])
    try:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"process 0 cannot listen at port {port} of {coordinator}: {reason}; choose another") from error


@contextlib.contextmanager
def _patience(hosts: Hosts, timeout: int) -> Iterator[None]:
    """Ends the process where the block takes too long. It runs C++ that would abort, and that no Ctrl-C reaches."""
    at = hosts.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS") or "the address that JAX detected"
    who = "not all processes came to the coordinator" if hosts.process_id == 0 else "the coordinator did not answer"

    def give_up() -> None:
        print(f"pdm: {who} at {at} within {timeout} s; see that all processes run and reach it", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)

    timer, main_thread = threading.Timer(timeout, give_up), threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL) if main_thread else None
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if main_thread:
            signal.signal(signal.SIGINT, previous)
