"""How a command runs: where compiled programs are kept, and what makes GPUs deterministic."""

import argparse
import os

import jax
import pytest

from pdm_jax.cli.running import add_running_arguments, start


@pytest.fixture
def begin(monkeypatch):
    """Starts a command with flags; returns where its compiled programs are kept."""
    before = {name: getattr(jax.config, name) for name in ("jax_compilation_cache_dir", "jax_enable_compilation_cache")}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=b")

    def begin(*flags, backend="gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda: backend)
        parser = argparse.ArgumentParser()
        add_running_arguments(parser)
        start(argparse.Namespace(**vars(parser.parse_args(flags)), workdir="/runs/a"))
        return jax.config.jax_compilation_cache_dir if jax.config.jax_enable_compilation_cache else None

    yield begin
    for name, value in before.items():
        jax.config.update(name, value)


def test_accelerators_keep_compiled_programs_in_the_workdir(begin):
    assert begin(backend="cpu") is None
    assert begin(backend="tpu") == "/runs/a/compiled"


def test_compiled_programs_are_kept_where_it_is_asked_for(begin, tmp_path):
    assert begin(f"--compilation-cache={tmp_path}", backend="cpu") == str(tmp_path)
    assert begin() == str(tmp_path)  # one that is set already, as by JAX_COMPILATION_CACHE_DIR, stays
    assert begin("--compilation-cache=gs://a/b") == "gs://a/b"
    assert begin("--compilation-cache=none") is None


def test_determinism_is_asked_of_xla(begin):
    begin("--deterministic")
    assert os.environ["XLA_FLAGS"] == "--xla_a=b --xla_gpu_deterministic_ops=true"
