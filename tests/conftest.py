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

# Tests that train the same tiny network share its compiled step, those of other pytest-xdist processes, too.
if "PDM_TEST_CACHE" not in os.environ:
    os.environ["PDM_TEST_CACHE"] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ["PDM_TEST_CACHE"], ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", os.environ["PDM_TEST_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The small selection of reference cases (weights, inputs and outputs of the official programs)."""
    return Path(__file__).parent / "golden"
