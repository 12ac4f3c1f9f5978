"""What this computer has, found out without JAX, which decides on its devices when it is imported."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path


def has_tpu() -> bool:
    """Whether TPUs are attached and libtpu is there to use them."""
    attached = any(next(Path("/dev").glob(pattern), None) for pattern in ("accel*", "vfio/[0-9]*"))
    return attached and importlib.util.find_spec("libtpu") is not None


def pass_over_absent_tpu() -> None:
    """Lets JAX use the CPU where libtpu is installed for `pdm plan` only: it would look for TPUs, and complain.

    What JAX_PLATFORMS says, and GPUs, have precedence. Call it before JAX is imported.
    """
    has_gpu_plugin = any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))
    if importlib.util.find_spec("libtpu") is not None and not has_tpu() and not has_gpu_plugin:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
