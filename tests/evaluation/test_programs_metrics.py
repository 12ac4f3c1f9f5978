"""Every metric against the official programs themselves, installed for the purpose."""

import json
import subprocess
import venv

import pytest

from tests.evaluation import make_golden_metrics
from tests.evaluation.test_metrics_golden import CHECKS

PROGRAMS = ["torch", "torch-fidelity==0.4.0", "pytorch-fid==0.3.0", "torchmetrics==1.9.0", "scikit-image==0.26.0"]


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PROGRAMS], check=True)
    subprocess.run([python, make_golden_metrics.__file__, folder / "metrics.json"], check=True)
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.programs
@pytest.mark.parametrize("check", CHECKS)
def test_as_the_official_programs(check, official):
    check(official)
