"""`pdm info`: a workdir, one checkpoint, and what is neither."""

import json

import pytest


def test_a_workdir(pdm, workdir):
    status, out, err = pdm("info", workdir)
    assert (status, err) == (0, "")
    head, config = out.split("config:\n")
    assert f"{workdir}: 2 checkpoints\n" in head
    assert "step 2: " in head and "step 4: " in head and "MiB" in head
    assert "images: 4x4x1, 10 classes" in head and "last report: step 4, loss 8.5\n" in head
    assert json.loads(config)["data"]["source"] == "builtin:digits"
    assert pdm("info", workdir / "checkpoints")[1] == out


def test_a_checkpoint(pdm, workdir):
    status, out, _ = pdm("info", workdir / "checkpoints" / "2")
    assert status == 0
    assert f"{workdir}: 1 checkpoint\n" in out and "step 2: " in out and "step 4: " not in out


def test_a_run_without_classes_and_reports(pdm, unconditional):
    status, out, _ = pdm("info", unconditional)
    assert status == 0
    assert "images: 4x4x3, unconditional" in out and "last report" not in out


@pytest.mark.parametrize(
    "path, message",
    [
        ("nowhere", "nowhere is not a workdir: it has no checkpoints/ folder"),
        ("run/checkpoints/7", "there is no checkpoint "),
    ],
)
def test_what_is_not_there(refused, tmp_path, path, message):
    assert message in refused("info", tmp_path / path)


def test_a_workdir_without_checkpoints(refused, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    assert "holds no checkpoint that can be read; train one with: pdm train" in refused("info", tmp_path)
