"""`pdm sample --classifier` and `--guide`: what they change, and what does not fit."""

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.cli.latent_runs import classifier, ldm, save


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return save(tmp_path_factory.mktemp("plain"), ldm())


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return save(tmp_path_factory.mktemp("classifier"), classifier())


@pytest.fixture
def sample(pdm, plain, tmp_path):
    """Images and labels of `pdm sample`."""

    def run(*argv):
        out = tmp_path / "samples.npz"
        status, _, log = pdm("sample", f"--workdir={plain}", "--num=2", f"--out={out}", "--batch-size=8", *argv)
        assert status == 0, log
        with np.load(out) as arrays:
            return arrays["arr_0"].astype(int), arrays.get("arr_1")

    return run


def test_a_classifier_guides_an_unconditional_model_to_labels(sample, judge):
    guide = f"--classifier={judge}", "--classifier-scale=3000"  # its gradients are those of random weights
    images, labels = sample(*guide, "--labels=1,2")
    np.testing.assert_array_equal(labels, [1, 2])
    other, _ = sample(*guide, "--labels=1,0")
    np.testing.assert_array_equal(images[0], other[0])
    assert (images[1] != other[1]).mean() > 0.1


def test_a_picture_guides(sample, tmp_path):
    picture = np.zeros((30, 24, 3), np.uint8)
    picture[..., 0] = 255
    Image.fromarray(picture).save(tmp_path / "red.png")
    guided, _ = sample(f"--guide={tmp_path}/red.png", "--guide-scale=0.1")
    plain, labels = sample()
    assert labels is None
    assert (guided != plain).any()  # that they come nearer is of tests/pipelines/test_guides.py


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--classifier-scale=2"], "--classifier-scale is of --classifier, which is not given"),
        (["--guide-by=l2"], "--guide-by is of --guide, which is not given"),
        (["--guide=none.png"], "cannot read none.png: No such file or directory"),
        (["--guide=small.png", "--guide-by=lowres"], "small.png has 4x8 pixels; --guide-by=lowres takes a small copy"),
        (["--guide=small.png", "--guide-by=lpips"], "needs --guide-lpips=alex:BACKBONE,HEADS or vgg:BACKBONE,HEADS"),
        (["--guide=small.png", "--guide-by=lpips", "--guide-lpips=alex:a,b"], "by alex needs images of 31 pixels"),
        (["--guide=small.png", "--guide-lpips=alex:a,b"], "--guide-lpips is of --guide-by=lpips"),
        (["--guide=small.png", "--guide-scale=nan"], "--guide-scale is nan; expected a number, 0 is none"),
        (["--labels=1"], "this model is unconditional; drop the labels"),
    ],
)
def test_mistakes(refused, plain, tmp_path, monkeypatch, argv, message):
    Image.fromarray(np.zeros((4, 8, 3), np.uint8)).save(tmp_path / "small.png")
    monkeypatch.chdir(tmp_path)
    assert message in refused("sample", f"--workdir={plain}", "--out=x.png", *argv)
    assert [path.name for path in tmp_path.iterdir()] == ["small.png"]


def test_classifiers_that_do_not_fit(refused, plain, tmp_path):
    def said(config, **options):
        save(tmp_path / "judge", config, **options)
        line = refused(
            "sample", f"--workdir={plain}", f"--out={tmp_path}/x.png", f"--classifier={tmp_path}/judge", "--labels=0"
        )
        (tmp_path / "judge").rename(tmp_path / f"was-{len(list(tmp_path.iterdir()))}")
        return line

    assert "latents have another first stage than this model's" in said(classifier(), first_stage=5)
    assert "latents have another scale than this model's" in said(classifier(), scale=2.0)
    assert "has another noise process than this model" in said(classifier(diffusion={"beta_max": 0.02}))
    pixels = {"kind": "none", "network": None}
    assert "reads 3 channels 1 times smaller than images and this" in said(classifier(latent=pixels))
    assert "holds a model of the system 'pdm', not a classifier" in said(
        tiny.config(model={"num_classes": 0}, loss={"label_dropout": 0.0})
    )
