"""`pdm eval`: images of a run and of other programs, from the command line to the table."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from pdm_jax.evaluation import local_features
from tests.evaluation.conftest import mean_distance, simple_features


@pytest.fixture(autouse=True)
def quick_local_network(monkeypatch):
    """The local network without its training; which is tested elsewhere."""
    trained = []

    def train(dataset, seed, progress):
        trained.append(dataset.name)
        return simple_features("local")

    monkeypatch.setattr(local_features, "train_local", train)
    monkeypatch.setattr(local_features, "save", lambda path, network: path.write_text("kept"))
    monkeypatch.setattr(local_features, "load", lambda path: simple_features("local"))
    monkeypatch.setattr(local_features, "local_perceptual", lambda network: mean_distance("perceptual_local"))
    return trained


@pytest.fixture
def evaluate(pdm, tmp_path):
    """Runs `pdm eval`; returns what it printed as {name: number} and the rows of the table."""

    def run(*argv):
        status, said, log = pdm("eval", *argv, f"--out={tmp_path}/out", f"--cache={tmp_path}/cache")
        assert status == 0, log
        lines = said.splitlines()
        with (tmp_path / "out" / "results.csv").open(newline="") as file:
            return {name: float(value) for name, value in map(str.split, lines[:-1])}, list(csv.DictReader(file))

    return run


def folder_of(path, images):
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / f"{i:03d}.png")
    return path


def test_a_run_beside_its_data(evaluate, workdir, tmp_path, quick_local_network):
    printed, rows = evaluate(f"--workdir={workdir}", "--num=20", "--batch-size=8", "--steps=2")
    assert set(printed) == {"fid_local", "precision_local", "recall_local"}
    (row,) = rows
    expected = {"images": str(workdir), "step": "4", "seed": "0", "sampler": "ddim", "steps": "2", "guidance": "1.0"}
    expected |= {"num": "20", "num_reference": "1797", "reference": "builtin:digits", "features": "local"}
    assert {key: row[key] for key in expected} == expected and len(row["config"]) == 8 and len(row["weights"]) == 12
    assert float(row["fid_local"]) == pytest.approx(printed["fid_local"], rel=1e-4)
    (record,) = (tmp_path / "out").glob("scores-*.json")
    assert set(json.loads(record.read_text())["scores"]) == set(printed)
    assert quick_local_network == ["builtin:digits"]


def test_images_are_kept_and_more_of_them_go_on(evaluate, workdir, tmp_path, quick_local_network):
    few, _ = evaluate(f"--workdir={workdir}", "--num=8", "--batch-size=8", "--metrics=fid")
    (folder,) = (tmp_path / "out").glob("step-4-*")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    more, _ = evaluate(f"--workdir={workdir}", "--num=20", "--batch-size=8", "--metrics=fid")
    again, rows = evaluate(f"--workdir={workdir}", "--num=8", "--batch-size=16", "--metrics=fid")
    assert again == few != more and len(rows) == 3
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before
    assert len(quick_local_network) == 1  # the cache has it
    evaluate(f"--workdir={workdir}", "--num=8", "--batch-size=8", "--metrics=fid", "--guidance=2")
    assert len(list((tmp_path / "out").glob("step-4-*"))) == 2  # other images, another folder


def test_the_images_are_those_of_pdm_sample(evaluate, pdm, workdir, tmp_path):
    evaluate(f"--workdir={workdir}", "--num=8", "--batch-size=8", "--metrics=fid", "--seed=3")
    assert pdm("sample", f"--workdir={workdir}", "--num=8", "--seed=3", f"--out={tmp_path}/s.npz")[0] == 0
    with np.load(next((tmp_path / "out").glob("step-4-*/*.npz"))) as kept, np.load(tmp_path / "s.npz") as sampled:
        np.testing.assert_array_equal(kept["arr_0"], sampled["arr_0"][..., :1])
        np.testing.assert_array_equal(kept["arr_1"], sampled["arr_1"])


def test_any_two_sets(evaluate, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (12, 16, 16, 3)).astype(np.uint8)
    a, b = folder_of(tmp_path / "a", images), folder_of(tmp_path / "b", np.maximum(images, 20))
    printed, rows = evaluate(f"--images={a}", f"--reference={b}", "--metrics=fid,psnr,ssim,lpips,rfid")
    assert set(printed) == {"psnr", "ssim", "rfid_local", "perceptual_local"}
    assert rows[0]["num"] == rows[0]["num_reference"] == "12" and "step" not in rows[0]
    assert 20 < printed["psnr"] < 60 and 0.8 < printed["ssim"] <= 1


def test_seams_of_any_images_and_of_a_run(evaluate, workdir, tmp_path):
    tiles = np.random.default_rng(0).integers(0, 255, (12, 4, 4, 3)).astype(np.uint8)
    a = folder_of(tmp_path / "a", tiles.repeat(8, 1).repeat(8, 2) // 2 + np.arange(32, dtype=np.uint8)[:, None])
    printed, rows = evaluate(f"--images={a}", "--metrics=seams", "--seam-period=8")
    assert printed["seams"] > 10 and printed["seams_low"] > 10 and printed["seams_z"] > 8
    assert rows[0]["seam_period"] == "8" and rows[0]["num_reference"] == ""
    printed, _ = evaluate(f"--workdir={workdir}", "--num=8", "--steps=2", "--metrics=seams")  # of P = 2
    assert 0.1 < printed["seams"] < 10


def test_mistakes_are_one_line(refused, workdir, tmp_path):
    a = folder_of(tmp_path / "a", np.zeros((3, 16, 16, 3), np.uint8))
    run, images = [f"--workdir={workdir}", "--num=4"], [f"--images={a}"]
    cases = [
        ([], "one of the arguments --workdir --images is required"),
        ([*run, f"--images={a}"], "not allowed with argument"),
        ([*run, "--metrics=fdi"], "there is no metric 'fdi'"),
        ([*run, "--size=8"], "--size belongs to --images"),
        ([*run, "--num=0"], "--num is 0"),
        ([*images, f"--reference={a}", "--num=0"], "--num is 0"),
        ([*images, f"--reference={a}", "--batch-size=0"], "--batch-size is 0"),
        ([*images, f"--reference={a}", "--manifold-num=0"], "--manifold-num is 0"),
        ([*run, "--metrics=sfid"], "sfid needs spatial features, which local has not"),
        ([*images, "--metrics=psnr"], "needs --reference with the originals"),
        ([*run, "--features=inception"], "--features is 'inception'; expected local, inception:FILE or vgg16:FILE"),
        ([*run, "--features=inception:none.pth"], "none.pth"),
        ([*run, "--step=best"], "has a score; train with config.eval.every set"),
        ([*run, "--step=new"], "--step is 'new'; expected a number, or best"),
        ([*run, "--metrics=clip"], "clip needs --clip-model=FOLDER"),
        ([*images, "--steps=4"], "--steps is of sampling and needs --workdir"),
        ([*images, "--metrics=seams"], "seams are of patches; give --seam-period=P"),
        ([*images, "--metrics=seams", "--seam-period=9"], "16x16 is smaller than two patches of 9x9"),
        ([*run, "--metrics=seams", "--seam-period=0"], "the seams' period is 0"),
        ([*images, "--metrics=fid"], "local features are trained on real images; give --reference"),
        ([*images, f"--reference={a}", "--num=7"], "has 3 images, 7 were asked for"),
        ([*images, "--reference=nowhere"], "'nowhere' is no path that exists"),
        ([*images, f"--reference={a}"], "precision needs at least 4 images, there are 3; give more"),
        ([*images, f"--reference={a}", "--metrics=lpips", "--perceptual=alex:x"], "--perceptual is 'alex:x'"),
    ]
    for argv, message in cases:
        line = refused("eval", *argv, f"--out={tmp_path}/out", f"--cache={tmp_path}/cache")
        assert message in line, (argv, line)
    assert not (tmp_path / "out").exists()  # nothing was generated for what cannot be scored
    (tmp_path / "file").write_text("")
    assert "choose another --cache" in refused("eval", *run, f"--cache={tmp_path}/file/cache")
