"""`pdm upscale` and `pdm extend`: larger images of the same codes and start, what they are compared with, mistakes."""

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.cli.conftest import save_weights

SYSTEM = {
    "data": {"image_size": (8, 12)},
    "model": {
        "system": "patch_dm",
        "backbone": "patch_unet",
        "patch_size": 4,
        "prediction": "x0",
        "num_classes": 0,
        "network": {"width": 32, "channel_mult": (1,), "num_blocks": 1, "embed_dim": 32},
    },
    "loss": {"kind": "shifted", "target": "x0", "vlb_weight": 0.0, "label_dropout": 0.0, "position_dropout": 0.5},
    "sample": {"sampler": "ddim", "steps": "3", "clip": "static"},
}


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """A workdir of a Patch-DM without codes."""
    path = tmp_path_factory.mktemp("patches")
    save_weights(path, tiny.config(**SYSTEM), (0,))
    return path


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def archive(path):
    with np.load(path) as arrays:
        return arrays["arr_0"]


def test_upscale(pdm, patches, tmp_path):
    out, compare = tmp_path / "large.npz", tmp_path / "compare.png"
    status, said, log = pdm(
        *("upscale", f"--workdir={patches}", "--num=3", f"--out={out}", f"--compare={compare}", "--batch-size=8")
    )
    assert status == 0, log
    assert said.startswith(f"{out}: 3 images of 16x24 pixels of checkpoint 0, ")
    images = archive(out)
    assert images.shape == (3, 16, 24, 3) and images.std() > 5
    assert read(compare).size > 0


def test_the_middle_of_an_extended_image_starts_as_the_trained_one(pdm, patches, tmp_path):
    out, compare = tmp_path / "large.npz", tmp_path / "compare.png"
    flags = ("--top=1", "--right=2", f"--out={out}", f"--compare={compare}", "--num=2", "--batch-size=8")
    status, said, log = pdm("extend", f"--workdir={patches}", *flags)
    assert status == 0, log
    assert "2 images of 12x20 pixels" in said
    assert archive(out).shape == (2, 12, 20, 3)
    assert read(compare).shape[1] == 6 * (20 + 4 + 20) * 2 + 2  # 64 pixels high at least


@pytest.mark.parametrize(
    "argv, message",
    [
        (["upscale", "--factor=1"], "--factor is 1; expected at least 2"),
        (["upscale", "--num=0"], "--num is 0; expected at least 1"),
        (["upscale", "--compare=x.jpg"], "--compare is x.jpg; expected a .png"),
        (["extend"], "nothing can be added by --top=0, --bottom=0, --left=0, --right=0; give at least one side"),
        (["extend", "--left=-1", "--top=2"], "give at least one side a number above 0, none below"),
        (["extend", "--left=1", "--out=x.jpg"], "expected a .png (grid), a .npz"),
    ],
)
def test_mistakes(refused, patches, argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*argv, f"--workdir={patches}")
    assert not list(tmp_path.iterdir())


def test_models_that_do_not_fit(refused, unconditional, tmp_path):
    for command in (["upscale"], ["extend", "--left=1"]):
        line = refused(*command, f"--workdir={unconditional}", f"--out={tmp_path}/x.png")
        assert "holds a model of the system 'pdm', which makes one size; this command needs one of patch_dm" in line
    told = tiny.config(**SYSTEM | {"loss": SYSTEM["loss"] | {"position_dropout": 0.0}})
    save_weights(tmp_path / "told", told, (0,))
    line = refused("extend", "--left=1", f"--workdir={tmp_path}/told", f"--out={tmp_path}/x.png")
    assert "train with config.loss.position_dropout above 0, such as 0.5" in line
