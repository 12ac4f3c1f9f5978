"""CLIP score against transformers and torchmetrics themselves, installed for the purpose."""

import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.clip_folder import write
from tests.evaluation.test_clip_score import CHECKS

PROGRAMS = ["torch", "pillow", "transformers==5.23.0", "torchmetrics==1.9.0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def official(folder):
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PROGRAMS], check=True)
    command = [python, "-m", "tests.evaluation.make_golden_clip", folder, folder / "clip.npz"]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    return np.load(folder / "clip.npz")


@pytest.mark.programs
@pytest.mark.parametrize("check", CHECKS)
def test_as_the_official_programs(check, folder, official):
    check(folder, official)
