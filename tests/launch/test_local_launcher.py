"""`launch/local.py`: processes that find each other, end together, and get signals."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.conftest import ROOT

GLOO = """
import os, jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(
    os.environ["JAX_COORDINATOR_ADDRESS"], int(os.environ["JAX_NUM_PROCESSES"]), int(os.environ["JAX_PROCESS_ID"])
)
from jax.experimental import multihost_utils
import numpy as np
print("sum", multihost_utils.process_allgather(np.int32(jax.process_index() + 1)).sum())
"""


def start(tmp_path, program, *argv):
    """Starts two processes of a Python program."""
    command = [sys.executable, ROOT / "launch/local.py", f"--logs={tmp_path}/logs", *argv, "--", sys.executable]
    return subprocess.Popen([*command, "-c", program], cwd=tmp_path, stderr=subprocess.PIPE, text=True)


def logs(tmp_path):
    return [(tmp_path / "logs" / f"{index}.log").read_text() for index in (0, 1)]


def wait_for(*paths):
    deadline = time.monotonic() + 20
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(path):
    """Whether the process that wrote its number to a file is there."""
    try:
        os.kill(int(path.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_two_processes_find_each_other(tmp_path, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")  # one device each
    process = start(tmp_path, GLOO)
    assert process.wait(120) == 0, logs(tmp_path)
    assert ["sum 3" in log for log in logs(tmp_path)] == [True, True]


@pytest.mark.parametrize("end, code", [("sys.exit(2)", 2), ("os.kill(os.getpid(), 9)", 137)])
def test_all_end_when_one_fails(tmp_path, end, code):
    program = f"""
import os, pathlib, sys, time
index = os.environ["JAX_PROCESS_ID"]
pathlib.Path(index).write_text(str(os.getpid()))
while index == "1" and not pathlib.Path("0").exists(): time.sleep(0.01)
if index == "1":
    print("there is no disk", flush=True)
    {end}
time.sleep(60)
"""
    process = start(tmp_path, program)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code and f"exit code {code}; see {tmp_path}/logs/1.log" in err
    assert "there is no disk" in logs(tmp_path)[1] and not is_running(tmp_path / "0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(tmp_path, number):
    program = f"""
import os, pathlib, signal, sys, time
def save(*_):
    pathlib.Path("saved" + os.environ["JAX_PROCESS_ID"]).touch()
    sys.exit(75)
signal.signal({int(number)}, save)
pathlib.Path(os.environ["JAX_PROCESS_ID"]).touch()
time.sleep(60)
"""
    process = start(tmp_path, program)
    wait_for(tmp_path / "0", tmp_path / "1")
    process.send_signal(number)
    assert process.wait(30) == 75
    assert (tmp_path / "saved0").exists() and (tmp_path / "saved1").exists()


def test_what_does_not_end_is_killed(tmp_path):
    program = """
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(os.environ["JAX_PROCESS_ID"]).write_text(str(os.getpid()))
time.sleep(60)
"""
    process = start(tmp_path, program, "--grace=0.2")
    wait_for(tmp_path / "0", tmp_path / "1")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 137 and not is_running(tmp_path / "0") and not is_running(tmp_path / "1")


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--processes=0", "--logs=logs", "true"], "local: --processes is 0; expected at least 1"),
        (
            ["--logs=logs", "no-such-program"],
            "local: cannot start: [Errno 2] No such file or directory: 'no-such-program'",
        ),
        (["--logs=logs"], "required: COMMAND"),
        (["--logs=/dev/null/logs", "true"], "cannot start"),
    ],
)
def test_mistakes(tmp_path, argv, message):
    done = subprocess.run(
        [sys.executable, ROOT / "launch/local.py", *argv], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and message in done.stderr.splitlines()[-1]
