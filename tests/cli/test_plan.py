"""`pdm plan`: its table and file with a compiler that is made up, and its mistakes."""

import json

import pytest

from pdm_jax.planning import plan as planning
from tests.cli.conftest import SMOKE
from tests.planning.made_up import measured


@pytest.fixture
def compiler(monkeypatch):
    """Everything fits; returns what was asked: (kind, slice, batch)."""
    asked = []

    def measure(kind, config, where, quick):
        asked.append((kind, where.name, config.data.batch_size))
        return measured(batch_size=config.data.batch_size, num_steps=5 if kind == "sample" else 1)

    monkeypatch.setattr(planning, "measure", measure)
    monkeypatch.setattr(planning, "require_libtpu", lambda: None)
    return asked


def test_a_table_of_both_halves(pdm, compiler, tmp_path):
    path = tmp_path / "plan.json"
    status, out, err = pdm("plan", f"--config={SMOKE}", "--topology=v2-8,v5e-8", "--no-largest-batch", f"--json={path}")
    assert (status, err) == (0, "")
    assert out.startswith("training step of high, low: 268,435,456 parameters each\n\n")
    assert "v2-8" in out and "v5e-8" in out and "a bound from published peaks, not a promise" in out
    assert compiler == [("train", "v2-8", 8), ("train", "v5e-8", 8)]
    assert [report["topology"] for report in json.loads(path.read_text())] == ["v2-8", "v5e-8"]


def test_settings_reach_the_compiler(pdm, compiler):
    pdm("plan", f"--config={SMOKE}", "--half=low", "--config.data.batch_size=24", "--no-largest-batch")
    pdm("plan", f"--config={SMOKE}", "--sample", "--batch-size=20", "--topology=v2-32", "--no-largest-batch")
    assert compiler == [("train", "v2-8", 24), ("sample", "v2-32", 20)]


def test_the_largest_batch_is_looked_for(pdm, compiler):
    _, out, _ = pdm("plan", f"--config={SMOKE}", "--sample", "--topology=v5e-8")
    assert [batch for _, _, batch in compiler] == [64, 64, 32]
    (line,) = [line for line in out.splitlines() if line.startswith("largest batch")]
    assert line.split() == ["largest", "batch", "64"]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--topology=v2-9"], "there is no topology 'v2-9'; expected one of v2-{8,32,128,256,512}"),
        (["--batch-size=8"], "--batch-size is of --sample; in training set --config.data.batch_size=N"),
        (["--sample", "--batch-size=0"], "--batch-size is 0; expected at least 1"),
        (["--sample", "--half=low"], "--half is of training; sampling crosses all parts of a model"),
        (["--half=middle"], "this model has no part 'middle'; it has high, low"),
        (["--json=nowhere/plan.json"], "there is no folder nowhere for --json"),
    ],
)
def test_mistakes(refused, compiler, flags, message):
    assert message in refused("plan", f"--config={SMOKE}", *flags)


def test_a_file_that_cannot_be_written(pdm, compiler, tmp_path):
    (tmp_path / "plan.json").mkdir()
    status, _, err = pdm("plan", f"--config={SMOKE}", "--no-largest-batch", f"--json={tmp_path / 'plan.json'}")
    assert status == 2 and "cannot write" in err and err.count("\n") == 1
