"""`python launch/render.py` in a process of its own, and programs that stand in for those of a cluster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
VALUES = yaml.safe_load((ROOT / "launch" / "values.yaml").read_text())
SLURM = {"launcher": "slurm", "accelerator": "gpu:8", "workdir": "/shared/runs/a", "data": "/shared/data"}


@pytest.fixture
def render(tmp_path):
    """Renders the example's values with changes (None takes one out); returns (exit status, stderr, output folder)."""

    def run(changes, *argv, out=tmp_path / "out"):
        values = {key: value for key, value in (VALUES | changes).items() if value is not None}
        (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
        command = [sys.executable, ROOT / "launch/render.py", f"--values={tmp_path}/values.yaml", f"--out={out}", *argv]
        environment = os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{ROOT}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode, done.stderr, out

    return run


@pytest.fixture
def stand_in(tmp_path):
    """Makes a program in `tmp_path/bin`; returns the environment in which scripts find it."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name, text):
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)
        return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}

    return make
