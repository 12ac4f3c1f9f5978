"""The comparison of Patch-DM with its ablations at its smallest, and the parts that decide what it says."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from pdm_jax.evaluation import local_features
from tests.evaluation.conftest import simple_features

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
OURS = ("paper", "patch_dm", "paper_patch_dm", "patch_dm_cost", "report")


@pytest.fixture
def benchmarks(monkeypatch):
    """Makes the benchmarks importable, as they are when one of them is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]


def row(name, low, high):
    return {"row": name, "distance": {"median": (low + high) / 2, "low": low, "high": high}}


def test_the_order_says_which_rows_the_seeds_separate(benchmarks):
    from patch_dm.table import order

    rows = [row("c", 5, 6), row("a", 1, 2), row("b", 1.5, 3)]
    assert order(rows, "distance") == "a ~ b < c"


def test_the_encoder_sees_each_patch_once(benchmarks, monkeypatch):
    import patch_dm_cost

    monkeypatch.setattr(patch_dm_cost, "_GRIDS", ((1, 2), (3, 2)))
    for found in patch_dm_cost.encoder():
        assert found["encoded patches"] == pytest.approx(found["(n + 1)(m + 1)"], rel=0.002)


def test_too_few_images_are_one_line(benchmarks, tmp_path, capsys):
    from paper_patch_dm import main
    from PIL import Image

    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "one.png")
    assert main([f"--data=folder:{tmp_path}", "--scale=smoke", f"--out={tmp_path / 'out'}"]) == 2
    assert "has 1 images; this scale needs at least 32" in capsys.readouterr().err


@pytest.fixture
def compare(benchmarks, tmp_path, monkeypatch, capsys):
    """Runs the comparison of some rows; returns the table's rows and what was said."""
    monkeypatch.setattr(local_features, "train_local", lambda *arguments: simple_features("local"))

    def run(*rows):
        from paper_patch_dm import main

        with jax.numpy_dtype_promotion("standard"):  # optax promotes
            assert main(["--data=builtin:digits", "--scale=smoke", f"--out={tmp_path}", "--only", *rows]) == 0
        assert (tmp_path / "table_samples.png").stat().st_size > 10_000
        found = json.loads((tmp_path / "table.json").read_text())["rows"]
        assert [row["row"] for row in found] == ["held-out photographs", *rows]
        assert all(np.isfinite(row[name]["median"]) for row in found for name in ("distance", "seams"))
        return found, capsys.readouterr().out

    return run


@pytest.mark.slow
def test_all_rows_are_trained_and_sampled(compare):
    from patch_dm.variants import ROWS

    _, said = compare(*ROWS)
    assert sum(line.count(" ~ ") + line.count(" < ") for line in said.splitlines()[-2:]) == 12  # gaps of two measures
