"""The feature networks against the official programs themselves, installed for the purpose."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation import network_checks

SCRIPT = Path(__file__).with_name("make_golden_networks.py")


@pytest.fixture(scope="module")
def folder(programs, tmp_path_factory):
    """Weights as files of PyTorch, and what the programs make of them."""
    folder = tmp_path_factory.mktemp("networks")
    subprocess.run([programs, SCRIPT, folder], check=True)
    return folder


@pytest.mark.programs
@pytest.mark.parametrize("check", network_checks.ALL, ids=lambda check: check.__name__)
def test_as_the_official_programs(check, folder):
    with np.load(folder / "networks.npz") as results:
        check(folder, dict(results))
