"""`pdm sample`: the three forms of output, images that depend on seed, label and settings only, and mistakes."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from pdm_jax.cli import sampling
from pdm_jax.cli.sampling_flags import SETTINGS
from pdm_jax.config import SampleConfig
from pdm_jax.errors import UserError


@pytest.fixture
def sample(pdm, workdir, tmp_path):
    """Images (N, H, W, 3) uint8 and labels [N] of `pdm sample --out=....npz`."""

    def run(*argv, num=8, run=workdir, batch_size=8):
        out = tmp_path / "samples.npz"
        status, said, log = pdm(
            "sample", f"--workdir={run}", f"--num={num}", f"--out={out}", f"--batch-size={batch_size}", *argv
        )
        assert status == 0, log
        assert said.startswith(f"{out}: {num} images of checkpoint ")
        with np.load(out) as arrays:
            return arrays["arr_0"], arrays.get("arr_1")

    return run


def test_an_archive_has_adms_layout(sample):
    images, labels = sample(num=12)
    assert images.shape == (12, 4, 4, 3) and images.dtype == np.uint8
    assert (images[..., 0] == images[..., 1]).all()  # grey
    np.testing.assert_array_equal(labels, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])
    assert images.std() > 5  # not a constant


def test_an_archive_of_an_unconditional_model_has_no_labels(sample, unconditional):
    images, labels = sample(num=3, run=unconditional)
    assert images.shape == (3, 4, 4, 3) and labels is None


def test_a_grid_is_one_picture(pdm, workdir, tmp_path):
    out = tmp_path / "new" / "grid.png"  # the folder is made
    assert pdm("sample", f"--workdir={workdir}", "--num=20", "--batch-size=8", f"--out={out}")[0] == 0
    with Image.open(out) as image:
        assert image.mode == "L" and image.size == (10 * 66 - 2, 2 * 66 - 2)  # a column a class, 64 pixels and gaps
    assert [path.name for path in out.parent.iterdir()] == ["grid.png"]


def test_a_folder_has_a_file_an_image(pdm, sample, workdir, tmp_path):
    out = tmp_path / "folder"
    assert pdm("sample", f"--workdir={workdir}", "--num=3", "--labels=7,1", f"--out={out}")[0] == 0
    assert sorted(path.name for path in out.iterdir()) == ["00000_7.png", "00001_1.png", "00002_7.png"]
    images, _ = sample("--labels=7,1", num=3)
    with Image.open(out / "00001_1.png") as image:
        np.testing.assert_array_equal(np.asarray(image), images[1, ..., 0])


def test_an_image_depends_on_neither_batch_size_nor_number(sample):
    images, labels = sample(num=20, batch_size=64)
    np.testing.assert_array_equal(labels, np.arange(20) % 10)
    np.testing.assert_array_equal(sample(num=20)[0], images)
    np.testing.assert_array_equal(sample(num=5)[0], images[:5])


def test_what_changes_the_images(sample):
    images, _ = sample()
    np.testing.assert_array_equal(sample("--guidance=1", "--seed=0", "--step=4", "--weights=ema")[0], images)
    for setting in ("--seed=1", "--labels=3", "--weights=params", "--step=2", "--guidance=3"):
        assert (sample(setting)[0] != images).any(), setting


def test_every_setting_of_sampling_has_a_flag(refused, workdir, monkeypatch, tmp_path):
    def stop(system, config, mesh, **options):
        raise UserError(repr(config))

    monkeypatch.setattr(sampling, "make_generate", stop)
    line = refused(
        *("sample", f"--workdir={workdir}", f"--out={tmp_path}/x.png", "--sampler=ancestral", "--steps=9,9"),
        *("--eta=0.5", "--last-alpha=first", "--clip=dynamic", "--percentile=90", "--guidance=2"),
        *("--guidance-from=100", "--guidance-to=900", "--unguided-last"),
    )
    wanted = SampleConfig("ancestral", "9,9", eta=0.5, last_alpha="first", clip="dynamic", percentile=90.0)
    wanted = dataclasses.replace(wanted, guidance=2.0, guidance_from=100, guidance_to=900, unguided_last=True)
    assert line == f"pdm: {wanted!r}\n"
    assert {field.name for field in dataclasses.fields(SampleConfig)} == set(SETTINGS)
    assert repr(SampleConfig(sampler="ddim", steps="4")) in refused("sample", f"--workdir={workdir}")  # the run's own


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--sampler=dpm"], "sampler is 'dpm'; expected 'ancestral'"),
        (["--steps=ddim300"], "steps 'ddim300' of 1000 do not exist; the nearest that do: ddim250, ddim334"),
        (["--steps=2000"], "2000 steps cannot be spread over the 1000"),
        (["--steps=few"], "steps 'few' are not known"),
        (["--eta=2"], "eta is 2.0; expected 0 (deterministic) to 1"),
        (["--clip=hard"], "the threshold of x0 is 'hard'; expected one of none, static, dynamic"),
        (["--last-alpha=zero"], "last_alpha is 'zero'; expected 'one' or 'first'"),
        (["--labels=10"], "there is no class 10; this model has the classes 0 to 9"),
        (["--labels=cat"], "labels 'cat' are not understood; expected 'cycle' or numbers like '0,1,7'"),
        (["--num=0"], "--num is 0; expected at least 1"),
        (["--batch-size=0"], "--batch-size must be at least 1"),
        (["--step=3"], "has no checkpoint 3; it has: 2, 4"),
        (["--percentile=0", "--clip=dynamic"], "percentile"),
        (["--guidance-from=9", "--guidance-to=5", "--guidance=2"], "guid"),
        (["--weights=best"], "argument --weights: invalid choice: 'best'"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(refused, workdir, tmp_path, argv, message):
    assert message in refused("sample", f"--workdir={workdir}", f"--out={tmp_path}/samples.png", *argv)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--guidance=2"], "guidance 2 needs a model told of classes, captions or layouts; use 1 (none)"),
        (["--labels=0"], "this model is unconditional; drop the labels"),
    ],
)
def test_a_model_without_classes_has_no_labels_and_no_guidance(refused, unconditional, argv, message, tmp_path):
    assert message in refused("sample", f"--workdir={unconditional}", f"--out={tmp_path}/samples.png", *argv)


def test_outputs_that_cannot_be_written(refused, workdir, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "00000.png").write_text("mine")
    (tmp_path / "dir.png").mkdir()
    for out, message in [
        ("samples.jpg", "expected a .png (grid), a .npz (ADM's layout) or a folder"),
        ("full", "is not empty; choose a new one"),
        ("dir.png", "which is a folder; choose another name"),
        ("full/00000.png/samples.png", "cannot write to"),
    ]:
        assert message in refused("sample", f"--workdir={workdir}", f"--out={tmp_path / out}")
    assert (tmp_path / "full" / "00000.png").read_text() == "mine"


def test_a_write_that_fails_leaves_nothing_half_written(pdm, workdir, tmp_path, monkeypatch):
    def fail(file, *arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", fail)
    status, _, err = pdm("sample", f"--workdir={workdir}", "--num=2", f"--out={tmp_path}/samples.npz")
    assert status == 2
    assert err.splitlines()[-1].startswith(f"pdm: cannot write {tmp_path}/samples.npz: No space left on device")
    assert not list(tmp_path.iterdir())


def test_workdirs_that_hold_nothing(refused, tmp_path):
    for workdir in (tmp_path / "nowhere", tmp_path):
        assert "holds no checkpoint that can be read; train one with: pdm train" in refused(
            "sample", f"--workdir={workdir}"
        )
    assert not list(tmp_path.iterdir())
