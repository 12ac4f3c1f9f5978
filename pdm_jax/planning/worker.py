"""Compiles one program for one slice in a process of its own, whose environment, memory and chatter end with it.

  python -m pdm_jax.planning.worker < request.json

Prints one line of JSON: the fields of `Measured`, or `{"error": ...}` for a user's mistake.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from typing import Any

import jax
from jax.experimental import topologies

from pdm_jax.config import Config, read
from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.planning.cache import Cache, digest, sources, versions
from pdm_jax.planning.flops import program_flops
from pdm_jax.planning.programs import PROGRAMS, Program, without_remat
from pdm_jax.planning.work import work_of

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def measure(
    kind: str, config: Config, topology: str, options: dict[str, str], effort: str, cache: Cache
) -> dict[str, Any]:
    """The fields of `Measured`; a program that was compiled before under another request is not compiled again.

    Args:
      effort: the compiler's optimisation level, O0 to O3 or UNKNOWN (its own choice).

    Raises:
      UserError: the config does not fit itself or the slice.
    """
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options).devices
    mesh = make_mesh(config.mesh, devices)
    program = PROGRAMS[kind](config, mesh)
    traced = program.function.trace(*program.arguments)
    lowered = traced.lower(lowering_platforms=("tpu",))
    key = digest([lowered.as_text(), topology, options, effort, versions(), sources("planning")])
    if (found := cache.read("program", key)) is None:
        started = time.monotonic()
        jax.config.update("jax_optimization_level", effort)
        found = _compiled(lowered, program, len(devices)) | {"seconds": round(time.monotonic() - started, 1)}
        cache.write("program", key, found)
    return found | {
        "mesh": dict(mesh.shape),
        "batch_size": program.batch_size,
        "num_parameters": program.num_parameters,
        "state_bytes": program.state_bytes,
        "num_steps": program.num_steps,
        "model_flops": _model_flops(kind, config, mesh, traced) / len(devices),
    }


def _model_flops(kind: str, config: Config, mesh: Any, traced: Any) -> int:
    plain = without_remat(config)
    if plain is not config:
        program = PROGRAMS[kind](plain, mesh)
        traced = program.function.trace(*program.arguments)
    return program_flops(traced.jaxpr)


def _compiled(lowered: Any, program: Program, num_devices: int) -> dict[str, Any]:
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {"fits": False} | needed_memory(str(error), program.argument_bytes)
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    work, once = work_of(text, num_devices), work_of(text, num_devices, loops=False)
    return {
        "fits": True,
        "argument_bytes": memory.argument_size_in_bytes,
        "temp_bytes": memory.temp_size_in_bytes,
        "peak_bytes": memory.peak_memory_in_bytes,
        "flops": work.flops,
        # XLA counts the body of a loop once.
        "bytes_accessed": cost["bytes accessed"] * work.num_bytes / max(once.num_bytes, 1),
        "collectives": {kind: list(figures) for kind, figures in sorted(work.collectives.items())},
        "unknown_loops": work.unknown_loops,
    }


def needed_memory(message: str, argument_bytes: float) -> dict[str, float]:
    """Peak and available bytes from what the compiler says when it runs out of memory."""
    if found := re.search(
        r"HLO temporaries \(([\d.]+)([KMGT]?)B?\) exceeds available HBM \(([\d.]+)([KMGT]?)", message
    ):
        temporaries = float(found[1]) * _UNITS[found[2]]
        memory = {"temp_bytes": temporaries, "peak_bytes": argument_bytes + temporaries}
    elif found := re.search(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm", message):
        used = float(found[1]) * _UNITS[found[2]]
        memory = {"temp_bytes": max(used - argument_bytes, 0), "peak_bytes": used}
    else:
        raise UserError(f"the compiler ran out of memory and does not say how much it needs: {message[:300]}")
    return memory | {"argument_bytes": argument_bytes, "available_bytes": float(found[3]) * _UNITS[found[4]]}


def _end_with(parent: int) -> None:
    """Ends this process when the one that waits for it is gone: nobody else would stop a compilation."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> int:
    """Reads the request, prints the answer; returns the exit status."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    request = json.load(sys.stdin)
    config = read(Config, request["config"])
    try:
        answer = measure(
            request["kind"],
            config,
            request["topology"],
            request["options"],
            request["effort"],
            Cache(request["cache"]),
        )
    except UserError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
