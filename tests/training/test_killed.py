"""A process that is killed at any moment, told to stop, or out of disk goes on to what it would have become."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pdm_jax.checkpoints import Checkpoints
from tests.training.test_loop import assert_same, final_state

ROOT = Path(__file__).parents[2]
NUM_STEPS, SAVE_EVERY = 30, 3
COMMAND = [
    *("train", f"--config={ROOT}/configs/quickstart.py:smoke"),
    *("--config.data.image_size=4", "--config.train.grid_every=none", "--config.train.log_every=1"),
    "--config.split.snr=()",
    *(f"--config.train.num_steps={NUM_STEPS}", f"--config.checkpoint.save_every={SAVE_EVERY}"),
]
PROGRAM = """
import resource, sys
from pdm_jax.cli import main
limit = int(sys.argv.pop())
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main())
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts `pdm train` in a workdir as a process of its own; all share one compilation.

    A limit on the size of files stands for a full disk: the system refuses to write in the same way.
    """
    log = tmp_path_factory.mktemp("log") / "stderr"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def start(workdir, max_file_size=resource.RLIM_INFINITY):
        command = [sys.executable, "-c", PROGRAM, *COMMAND, f"--workdir={workdir}", str(max_file_size)]
        with log.open("w") as stderr:
            process = subprocess.Popen(command, env=environment, stderr=stderr)
        process.log = log
        return process

    return start


def finish(process):
    """The exit status, and what was printed to stderr."""
    return process.wait(timeout=120), process.log.read_text()


def wait_until(process, condition):
    """Polls as fast as it can, as what is waited for may last milliseconds."""
    deadline = time.monotonic() + 120
    while not (value := condition()):
        assert process.poll() is None, f"ended too early: {process.log.read_text()}"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return value


def steps_reported(workdir):
    path = workdir / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def unfinished(workdir):
    """Checkpoints that are being written."""
    return sorted(path.name for path in (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp"))


def saved(workdir):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.steps()


def proceed(start, workdir, num_steps):
    """Starts a process and lets it get `num_steps` further than those before it, so that it is well under way."""
    last = max(steps_reported(workdir), default=0) + num_steps
    process = start(workdir)
    wait_until(process, lambda: last in steps_reported(workdir))
    return process


def kill_after(start, workdir, num_steps, seconds):
    process = proceed(start, workdir, num_steps)
    time.sleep(seconds)
    process.kill()
    process.wait()


def kill_within_a_save(start, workdir):
    """Holds the process while it writes a checkpoint, and kills it unless it was done before it was held."""
    process = proceed(start, workdir, 1)
    while True:
        wait_until(process, lambda: unfinished(workdir))
        process.send_signal(signal.SIGSTOP)
        if unfinished(workdir):
            process.kill()
            process.wait()
            break
        process.send_signal(signal.SIGCONT)


def stop_after(start, workdir, num_steps):
    """Asks the process to stop; returns where it did."""
    process = proceed(start, workdir, num_steps)
    process.terminate()
    status, log = finish(process)
    assert status == 75
    assert f"stopped at step {saved(workdir)[-1]}; the same command goes on from there" in log
    return saved(workdir)[-1]


def run_out_of_disk(start, workdir):
    """Lets a process fail to write; it says so in one line and keeps what there is."""
    steps, state = saved(workdir), final_state(workdir)
    status, log = finish(start(workdir, max_file_size=20_000))
    assert status == 2
    *_, message = log.splitlines()
    assert message.startswith(f"pdm: cannot write to {workdir}/checkpoints: File too large; ")
    assert "run the same command to go on" in message
    assert saved(workdir) == steps
    assert_same(state, final_state(workdir))


def place_in_data(workdir):
    return json.loads((workdir / f"checkpoints/{NUM_STEPS}/data/metadata").read_text())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_whatever_ends_a_run_it_goes_on_to_bit_identical_parameters(start, tmp_path):
    whole, workdir, random = tmp_path / "whole", tmp_path / "interrupted", np.random.default_rng(0)
    status, log = finish(start(whole))
    assert status == 0, log
    assert "data: builtin:digits, 1797 images, 4x4x1" in log and f"{NUM_STEPS}/{NUM_STEPS}" in log

    kill_after(start, workdir, 2 * SAVE_EVERY + 2, seconds=random.uniform(0, 0.05))
    kill_within_a_save(start, workdir)
    assert unfinished(workdir) and saved(workdir)
    run_out_of_disk(start, workdir)
    stopped_at = stop_after(start, workdir, num_steps=2)
    status, log = finish(start(workdir))
    assert status == 0, log

    assert f"step {stopped_at + 1}/{NUM_STEPS}, loss" in log  # it begins where the last process ended
    assert_same(final_state(whole), final_state(workdir))
    assert place_in_data(whole) == place_in_data(workdir)
    assert steps_reported(workdir) == list(range(1, NUM_STEPS + 1))  # each once
    assert not unfinished(workdir)
