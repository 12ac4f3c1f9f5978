"""Programs compiled for TPUs by their own compiler, what is kept of them, and what goes wrong."""

import importlib.util
import json
import subprocess

import pytest

from pdm_jax.errors import UserError
from pdm_jax.planning import measured as measuring
from pdm_jax.planning import worker as working
from pdm_jax.planning.cache import Cache, digest, sources
from pdm_jax.planning.measured import measure, require_libtpu
from pdm_jax.planning.slices import find_slices
from pdm_jax.planning.worker import needed_memory
from tests import tiny
from tests.planning.made_up import GIB

compiles = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs pdm_jax[tpu]")
FIELDS = {
    "fits": True, "mesh": {}, "batch_size": 8, "num_parameters": 1, "state_bytes": 1, "argument_bytes": 1,
    "temp_bytes": 1, "peak_bytes": 1, "model_flops": 1, "num_steps": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PDM_CACHE", str(tmp_path))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    return tmp_path / "plan"


@pytest.fixture
def worker(monkeypatch):
    """A worker that answers at once; returns a function that sets how it ends, and the requests it had."""
    requests, end = [], {"returncode": 0, "stdout": json.dumps(FIELDS), "stderr": ""}

    def run(command, *, input, **_):
        requests.append(json.loads(input))
        return subprocess.CompletedProcess(command, **end)

    monkeypatch.setattr(measuring.subprocess, "run", run)
    monkeypatch.setattr(measuring, "require_libtpu", lambda: None)
    monkeypatch.setattr(measuring, "versions", dict)
    return end.update, requests


def plan(kind="train", name="v2-8", **groups):
    (where,) = find_slices(name)
    return measure(kind, tiny.config(**groups), where, quick=True)


@compiles
def test_a_training_step_over_data_and_fsdp():
    found = plan(mesh={"data": 2, "fsdp": 4})
    assert found.fits and (found.mesh["data"], found.mesh["fsdp"]) == (2, 4)
    assert found.state_bytes < 4 * 4 * found.num_parameters / 3  # four copies, nearly all of them over four devices
    assert found.state_bytes <= found.argument_bytes < found.peak_bytes < 8 * GIB
    assert 0.5 < found.flops / found.model_flops < 1.5 and found.bytes_accessed > found.argument_bytes
    assert "all-gather" in found.collectives and found.unknown_loops == 0


@compiles
def test_sampling_on_a_slice_of_many_hosts():
    found = plan("sample", "v5e-256", data={"batch_size": 256}, sample={"steps": "5"})
    assert found.fits and (found.mesh["data"], found.num_steps, found.unknown_loops) == (256, 5, 0)
    other = plan("sample", "v5e-256", data={"batch_size": 256}, sample={"steps": "3"})
    assert found.model_flops / other.model_flops == pytest.approx(5 / 3, rel=0.05)
    assert found.flops / other.flops == pytest.approx(5 / 3, rel=0.05)


@compiles
def test_a_mesh_that_the_slice_does_not_have():
    with pytest.raises(UserError, match=r"config.mesh is .*8 devices"):
        plan(mesh={"data": 3})


def test_a_second_call_asks_nobody(worker, cache):
    _, requests = worker
    assert plan() == plan() and len(requests) == 1
    assert requests[0]["topology"] == "v2:2x2" and requests[0]["cache"] == str(cache)
    plan("sample")
    plan(name="v4-8")
    plan(data={"batch_size": 16})
    assert len(requests) == 4 and requests[2]["options"] == {"chip_config_name": "megacore"}


@pytest.mark.parametrize(
    "end, message",
    [
        ({"stdout": '{"error": "config.mesh is wrong"}'}, "^config.mesh is wrong$"),
        ({"returncode": -9}, "v2-8: the compiler was killed, .* for want of memory"),
        ({"returncode": 1, "stderr": "chatter\nINTERNAL: bad\n"}, "v2-8: the compiler failed: INTERNAL: bad"),
    ],
)
def test_a_worker_that_fails_is_not_kept(worker, cache, end, message):
    set_end, requests = worker
    set_end(end)
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            plan()
    assert len(requests) == 2 and not list(cache.iterdir())


def test_a_worker_ends_with_the_process_that_waits_for_it(monkeypatch):
    parents, ended = iter([7, 7, 1]), []
    monkeypatch.setattr(working.os, "getppid", lambda: next(parents))
    monkeypatch.setattr(working.os, "_exit", ended.append)
    monkeypatch.setattr(working.time, "sleep", lambda seconds: None)
    working._end_with(7)
    assert ended == [1] and list(parents) == []


def test_without_the_compiler_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'pdm_jax\[tpu\]'$"):
        require_libtpu()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*; set PDM_CACHE to another folder"):
        Cache(tmp_path / "file" / "plan")


def test_a_cache_reads_only_what_is_whole(tmp_path):
    cache = Cache(tmp_path)
    cache.write("request", "a", {"x": 1})
    (tmp_path / "request-b.json").write_text('{"x": ')
    assert [cache.read("request", key) for key in "abc"] == [{"x": 1}, None, None]


def test_digests():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
    assert sources("planning") != sources()


@pytest.mark.parametrize(
    "message, peak, available",
    [
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (86.50G) exceeds available HBM (7.48G). HLO module: jit_f.",
            88.5,
            7.48,
        ),
        ("Ran out of memory in memory space hbm. Used 9.50G of 7.48G hbm. Exceeded hbm capacity by 2.02G.", 9.5, 7.48),
        ("Ran out of memory in memory space hbm. Used 9728.00M of 7.48G hbm.", 9.5, 7.48),
    ],
)
def test_what_the_compiler_would_need(message, peak, available):
    found = needed_memory(message, 2 * GIB)
    assert (found["peak_bytes"], found["available_bytes"]) == pytest.approx((peak * GIB, available * GIB))
    assert found["temp_bytes"] + found["argument_bytes"] == found["peak_bytes"]


def test_a_compiler_that_does_not_say():
    with pytest.raises(UserError, match="does not say how much it needs"):
        needed_memory("RESOURCE_EXHAUSTED: something else", 0)
