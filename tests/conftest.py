"""Eight fake CPU devices, exact float32 matmuls, no silent promotion, and a program compiled once a session."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Tests compile much and compute little: without LLVM's optimisations they take a third of the time.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile("compiling", deadline=None)  # the first example of a property may compile
hypothesis.settings.load_profile("compiling")

jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

_cache = tempfile.mkdtemp()  # tests that train the same tiny network share its compiled step
atexit.register(shutil.rmtree, _cache, ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", _cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The small selection of reference cases (weights, inputs and outputs of the official programs)."""
    return Path(__file__).parent / "golden"
