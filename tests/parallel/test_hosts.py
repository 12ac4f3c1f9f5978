"""Several hosts: what flags and environments mean, and what is said when the hosts do not find each other."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pdm_jax.errors import UserError
from pdm_jax.parallel import hosts
from pdm_jax.parallel.hosts import Hosts, find_hosts

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
JAX = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
JOIN = """
import sys
from pdm_jax.errors import UserError
from pdm_jax.parallel.hosts import Hosts, join_hosts
try:
    join_hosts(Hosts(sys.argv[1], 2, int(sys.argv[2])), timeout=1, lost_after=10)
except UserError as error:
    sys.exit(f"refused: {error}")
"""


def test_flags_or_the_environment_name_the_hosts():
    assert find_hosts(environ={}) is None
    assert find_hosts("a:1", 2, 0, environ={}) == Hosts("a:1", 2, 0)
    assert find_hosts(environ=JAX) == Hosts("a:1", 4, 3)
    assert find_hosts(process_id=1, environ=JAX) == Hosts("a:1", 4, 1)  # a flag comes first
    assert find_hosts(detect=True, environ={}) == Hosts()


def test_several_slurm_tasks_are_found():
    assert find_hosts(environ=SLURM | {"SLURM_NTASKS": "2"}) == Hosts()
    assert find_hosts(environ=SLURM | {"SLURM_NTASKS": "1"}) is None
    assert find_hosts(environ={"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}) is None  # of a job, but not in a step


@pytest.mark.parametrize(
    "environ, workers, expected",
    [
        ({"TPU_WORKER_HOSTNAMES": "t-0,t-1"}, "", Hosts()),
        ({"TPU_WORKER_HOSTNAMES": "t-0"}, "", None),
        ({"TPU_WORKER_HOSTNAMES": "t-0", "MEGASCALE_NUM_SLICES": "2"}, "", Hosts()),
        ({}, "10.0.0.1,10.0.0.2", Hosts()),
        ({}, "10.0.0.1", None),
    ],
)
def test_the_hosts_of_a_tpu_pod_are_found(monkeypatch, environ, workers, expected):
    monkeypatch.setattr(hosts, "has_tpu", lambda: True)
    monkeypatch.setattr(hosts, "_pod_workers", lambda: workers)
    assert find_hosts(environ=environ) == expected


def test_a_slurm_node_may_have_one_task_for_all_its_gpus():
    tasks = [hosts._tasks_of_node({"SLURM_STEP_TASKS_PER_NODE": text}) for text in ("1", "1(x4)", "8(x2)", "2(x3),1")]
    assert tasks == [1, 1, 8, None] and hosts._tasks_of_node({}) is None


@pytest.mark.parametrize(
    "named, message",
    [
        (("a:1", None, None), "--num-processes and --process-id are missing"),
        ((None, 2, 0), "--coordinator is missing"),
        (("a", 2, 0), "--coordinator is 'a'; expected HOST:PORT"),
        (("a:1", 2, 2), "--process-id is 2 of --num-processes=2; expected 0 to 1"),
    ],
)
def test_what_does_not_name_hosts_is_refused(named, message):
    with pytest.raises(UserError, match=message):
        find_hosts(*named, environ={})


def test_an_environment_without_numbers_is_refused():
    with pytest.raises(UserError, match="JAX_PROCESS_ID is 'one'; expected a number"):
        find_hosts(environ=JAX | {"JAX_PROCESS_ID": "one"})


def join(address, process_id):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", JOIN, address, str(process_id)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    return done.returncode, done.stderr


@pytest.fixture
def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("process_id, what", [(0, "not all processes came"), (1, "the coordinator did not answer")])
def test_hosts_that_do_not_come_are_one_line_with_the_address(free_port, process_id, what):
    status, said = join(f"localhost:{free_port}", process_id)
    assert status == 1 and said.count("\n") == 1
    assert what in said and f"localhost:{free_port} within 1 s" in said


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        status, said = join(f"localhost:{port}", 0)
    assert status == 1 and f"refused: process 0 cannot listen at port {port}" in said
