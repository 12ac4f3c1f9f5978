"""Two real processes train one model: one is killed, both go on, stop together, and one alone goes on from there."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.test_loop import assert_same, final_state

ROOT = Path(__file__).parents[2]
COMMAND = [
    *(sys.executable, "-m", "pdm_jax.cli", "train", f"--config={ROOT}/configs/quickstart.py:smoke"),
    *("--config.data.image_size=4", "--config.split.snr=()", "--config.train.log_every=1"),
    *("--config.train.grid_every=none", "--config.checkpoint.save_every=20", "--config.ema.place=host"),
]
FSDP = ["--config.mesh.data=1", "--config.mesh.fsdp=2"]  # each process has one device, and a half of each array
FOR_EVER, PATIENCE = 1_000_000, 300


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts `pdm train` in a workdir as one or two processes; all share one compilation."""
    logs = tmp_path_factory.mktemp("logs")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def start(workdir, num_steps, count=2):
        command, processes = [*COMMAND, f"--workdir={workdir}", f"--config.train.num_steps={num_steps}"], []
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        if count > 1:
            command += [*FSDP, f"--coordinator=localhost:{port}", f"--num-processes={count}", "--lost-after=10"]
        for i in range(count):
            log = logs / f"{workdir.name}-{i}"
            own = [f"--process-id={i}"] if count > 1 else []
            with log.open("w") as stderr:
                processes.append(subprocess.Popen([*command, *own], env=environment, stderr=stderr))
            processes[-1].log = log
        return processes

    return start


def finish(processes):
    return [process.wait(timeout=PATIENCE) for process in processes]


def reported(workdir):
    path = workdir / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def saved(workdir):
    """The steps of complete checkpoints, ascending."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdecimal())


def wait_until(processes, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert all(process.poll() is None for process in processes), [p.log.read_text() for p in processes]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_two_hosts_are_killed_go_on_and_stop_together(start, tmp_path):
    whole, workdir = tmp_path / "whole", tmp_path / "interrupted"
    first, second = start(workdir, FOR_EVER)
    wait_until([first, second], lambda: saved(workdir) and max(reported(workdir), default=0) > saved(workdir)[-1] + 2)
    second.kill()
    assert first.wait(timeout=PATIENCE) not in (0, 75)  # it does not wait for the other for ever
    before = max(reported(workdir))

    first, second = start(workdir, FOR_EVER)
    wait_until([first, second], lambda: max(reported(workdir)) > before)
    second.send_signal(signal.SIGTERM)
    assert finish([first, second]) == [75, 75], first.log.read_text() + second.log.read_text()
    stopped_at = saved(workdir)[-1]
    assert f"stopped at step {stopped_at}; the same command goes on from there" in first.log.read_text()

    processes = start(whole, stopped_at)
    assert finish(processes) == [0, 0]
    assert_same(final_state(whole), final_state(workdir))
    assert reported(whole) == reported(workdir) == list(range(1, stopped_at + 1))  # each once
    first, second = (process.log.read_text() for process in processes)
    assert "data: builtin:digits" in first and f"step {stopped_at}/{stopped_at}, loss" in first
    assert "step" not in second and "data" not in second

    assert finish(start(workdir, stopped_at + 2, count=1)) == [0]  # another mesh
    assert saved(workdir)[-1] == stopped_at + 2
