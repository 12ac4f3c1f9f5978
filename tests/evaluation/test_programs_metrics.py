"""Every metric against the official programs themselves, installed for the purpose."""

import json
import subprocess

import pytest

from tests.evaluation import make_golden_metrics
from tests.evaluation.test_metrics_golden import CHECKS


@pytest.fixture(scope="module")
def official(programs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    subprocess.run([programs, make_golden_metrics.__file__, folder / "metrics.json"], check=True)
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.programs
@pytest.mark.parametrize("check", CHECKS)
def test_as_the_official_programs(check, official):
    check(official)
