"""What compiling one program for one slice shows, by a process of its own or from the cache."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pdm_jax
from pdm_jax.config import Config, to_dict
from pdm_jax.errors import UserError
from pdm_jax.planning.cache import Cache, digest, sources, versions
from pdm_jax.planning.slices import Slice

# libtpu asks a TPU VM's metadata server and locks the chips unless told that there are none.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """One compiled program; bytes and FLOPs are of one device and one call.

    Where it does not fit, what it would do is unknown.
    """

    fits: bool  # whether the compiler found a way to hold it
    mesh: Mapping[str, int]
    batch_size: int  # images over all devices
    num_parameters: int  # of the model, counted once
    state_bytes: float  # weights, optimiser state and averages
    argument_bytes: float  # those and the batch
    temp_bytes: float  # activations, gradients
    peak_bytes: float  # at once; where it does not fit, what would be needed
    model_flops: float  # of the traced program, with nothing recomputed because the config asks for it
    num_steps: int  # of sampling in one call; 1 in training
    available_bytes: float | None = None  # where it does not fit: what the compiler may use of the HBM
    flops: float | None = None  # of the compiled program
    bytes_accessed: float | None = None
    collectives: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)  # kind: (calls, bytes)
    unknown_loops: int = 0  # loops of unknown length, counted as if they ran once
    seconds: float = 0.0  # that the compiler took


def require_libtpu() -> None:
    """Raises a `UserError` where the compiler for TPUs is not installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("the compiler for TPUs is not installed; install it with: pip install 'pdm_jax[tpu]'")


def measure(kind: str, config: Config, where: Slice, *, quick: bool = False) -> Measured:
    """Compiles a program of `PROGRAMS` for a slice, or recalls it.

    Args:
      quick: asks the compiler for its least effort: a third of its time for a few per cent more memory and bytes.

    Raises:
      UserError: libtpu is missing, the config does not fit itself or the slice, or the compiler failed.
    """
    require_libtpu()
    cache = Cache(Path(os.environ.get("PDM_CACHE") or "~/.cache/pdm_jax") / "plan")
    request = {
        "kind": kind,
        "config": to_dict(config),
        "topology": where.topology,
        "options": dict(where.options),
        "effort": "O0" if quick else "UNKNOWN",
    }
    key = digest([request, versions(), sources()])
    answer = cache.read("request", key)
    if answer is None:
        answer = _ask(request | {"cache": str(cache.folder)}, where.name)
        cache.write("request", key, answer)
    return Measured(**answer)


def _ask(request: Mapping[str, Any], name: str) -> dict[str, Any]:
    path = os.pathsep.join([str(Path(pdm_jax.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pdm_jax.planning.worker"],
        input=json.dumps(request),
        env=os.environ | _ENVIRONMENT | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in (-9, 137):
        raise UserError(
            f"{name}: the compiler was killed, probably for want of memory on this computer (a full-size step takes up "
            "to 11 GiB); --quick needs less"
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise UserError(f"{name}: the compiler failed: {last}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise UserError(answer["error"])
    return answer
