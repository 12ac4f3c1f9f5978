"""The feature networks against the official programs themselves, installed for the purpose."""

import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation import network_checks

SCRIPT = Path(__file__).with_name("make_golden_networks.py")
PROGRAMS = ["torch", "torchvision", "torch-fidelity==0.4.0", "pytorch-fid==0.3.0", "clean-fid==0.1.35", "lpips==0.1.4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights as files of PyTorch, and what the programs make of them."""
    folder = tmp_path_factory.mktemp("programs")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PROGRAMS], check=True)
    subprocess.run([python, SCRIPT, folder], check=True)
    return folder


@pytest.mark.programs
@pytest.mark.parametrize("check", network_checks.ALL, ids=lambda check: check.__name__)
def test_as_the_official_programs(check, folder):
    with np.load(folder / "networks.npz") as results:
        check(folder, dict(results))
