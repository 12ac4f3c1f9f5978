"""CLIP score against transformers and torchmetrics themselves, installed for the purpose."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.clip_folder import write
from tests.evaluation.test_clip_score import CHECKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def official(programs, folder):
    command = [programs, "-m", "tests.evaluation.make_golden_clip", folder, folder / "clip.npz"]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    return np.load(folder / "clip.npz")


@pytest.mark.programs
@pytest.mark.parametrize("check", CHECKS)
def test_as_the_official_programs(check, folder, official):
    check(folder, official)
