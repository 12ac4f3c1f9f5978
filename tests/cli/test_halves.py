"""A split model through the commands: trained half by half, sampled, judged, described, imported."""

import json

import numpy as np
import pytest

from tests.cli.conftest import ROOT

SPLIT = f"{ROOT}/configs/quickstart.py:smoke"
SETTINGS = ["--config.data.image_size=8", "--config.sample.steps=4", "--config.train.grid_every=None"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tmp_path_factory.mktemp("split") / "run"


def train(pdm, run, *argv):
    return pdm("train", f"--config={SPLIT}", *SETTINGS, f"--workdir={run}", "--config.train.num_steps=2", *argv)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Some donated buffers")
def test_a_half_at_a_time_then_the_whole(pdm, refused, run, tmp_path):
    assert train(pdm, run, "--half=low")[0] == 0
    line = refused("sample", f"--workdir={run}", f"--out={tmp_path}/a.npz")
    assert f"{run} lacks the part high of its model; train it with: pdm train" in line and "--half=high" in line
    assert train(pdm, run, "--half=high")[0] == 0

    status, said, _ = pdm("sample", f"--workdir={run}", "--num=8", f"--out={tmp_path}/a.npz")
    assert status == 0 and "images of checkpoint high 2, low 2, 4 ddim steps" in said
    status, said, _ = pdm("info", run)
    assert status == 0 and "high: 1 checkpoint\n" in said and "low: 1 checkpoint\n" in said
    assert json.loads(said.split("config:\n")[1])["split"]["snr"] == 0.25
    status, said, _ = pdm("info", run / "checkpoints" / "low" / "2")
    assert status == 0 and "low: 1 checkpoint" in said and "high" not in said.split("system:")[0]

    assert pdm("export", f"--workdir={run}", "--format=safetensors", tmp_path / "w.safetensors")[0] == 0
    status, _, _ = pdm("eval", f"--workdir={run}", "--metrics=is", "--num=4", f"--out={tmp_path}/e")
    assert status == 2  # fewer images than splits of the Inception Score; said before anything is generated
    status, said, _ = pdm("eval", f"--workdir={run}", "--nll", "--num=8", "--steps=5", f"--out={tmp_path}/e")
    assert status == 0 and said.startswith("nll  ") and "8 images of builtin:digits, 5 steps" in said
    assert np.isfinite(float(said.split()[1]))


def test_what_does_not_fit(refused, workdir, tmp_path):
    assert "--nll is of a run's model and needs --workdir" in refused("eval", "--images=x", "--nll")
    assert "is not split" in refused(
        "train", f"--config={SPLIT}", *SETTINGS, "--config.split.snr=()", f"--workdir={tmp_path}/a", "--half=high"
    )
    (tmp_path / "w.pt").write_bytes(b"")
    line = refused(
        "import", f"--config={SPLIT}", *SETTINGS, f"--workdir={tmp_path}/b", "--format=pdm-tf", tmp_path / "w.pt"
    )
    assert "the config splits its model into high, low; say with --half which of them the file has" in line
    line = refused("import", f"--config={SPLIT}", f"--workdir={tmp_path}/b", "--format=adm", tmp_path / "w.pt")
    assert "--format=adm is for the system 'pdm' with the backbone 'adm_unet'" in line
