"""Patch-DM by its commands: a first run, the latent prior on its codes, images of both; and what does not fit."""

import jax
import numpy as np
import pytest

from pdm_jax.checkpoints import Checkpoints
from pdm_jax.config import MeshConfig, to_dict
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.codes import open_prior, read_codes, sample_codes
from pdm_jax.training import train
from tests import tiny
from tests.cli.conftest import random_weights

PRIOR = """
from tests import tiny
from pdm_jax.config import to_dict

def get_config():
    import ml_collections
    return ml_collections.ConfigDict(to_dict(tiny.prior_config()))
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run with a table of codes, as it is after step 4."""
    path = tmp_path_factory.mktemp("patch_dm")
    config = tiny.patch_config(codes={"num": 12})
    with Checkpoints(path, config.checkpoint) as checkpoints:
        state = {"params": random_weights(config, 0), "ema": random_weights(config, 1)}
        checkpoints.save(4, state, {}, to_dict(config))
    return path


@pytest.fixture(scope="module")
def prior_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "prior.py"
    path.write_text(PRIOR)
    return path


@pytest.fixture
def sample(pdm, tmp_path):
    def run(workdir, *argv, num=3):
        out = tmp_path / "samples.npz"
        status, _, log = pdm("sample", f"--workdir={workdir}", f"--num={num}", f"--out={out}", "--batch-size=8", *argv)
        assert status == 0, log
        with np.load(out) as arrays:
            return arrays["arr_0"], log

    return run


def test_a_prior_is_trained_on_the_codes_of_a_run_and_sampled_with_it(pdm, sample, first, prior_file, tmp_path):
    prior = tmp_path / "prior"
    arguments = f"--config={prior_file}", f"--workdir={prior}", f"--config.data.source=codes:{first}"
    assert pdm("train", *arguments)[0] == 0
    assert pdm("train", *arguments, "--config.train.num_steps=6")[0] == 0  # goes on
    plain, _ = sample(first)
    images, _ = sample(first, f"--prior={prior}")
    assert images.shape == (3, 16, 24, 3) and (images != plain).any()
    parts, _ = sample(first, f"--prior={prior}", "--max-patches=5")
    assert np.abs(images.astype(int) - parts).max() <= 1
    rows, _ = sample(first, f"--prior={prior}", "--space=2")
    assert np.abs(images.astype(int) - rows).max() <= 1
    mesh = make_mesh(MeshConfig())
    codes = sample_codes(open_prior(prior, 16, mesh), 3, 0, mesh)
    assert codes.shape == (3, 16) and len(np.unique(codes, axis=0)) == 3


def test_without_a_prior_images_are_of_training_codes(sample, first, caplog):
    with caplog.at_level("INFO"):
        images, _ = sample(first)
    assert "images are made of the codes of training images" in caplog.text
    assert len(np.unique(images.reshape(3, -1), axis=0)) == 3


def test_codes_of_a_run_are_its_table(first):
    codes = read_codes(first, make_mesh(MeshConfig()))
    np.testing.assert_array_equal(codes, random_weights(tiny.patch_config(codes={"num": 12}), 1)["codes"]["table"])


def test_a_joint_encoder_trains_and_its_images_need_a_prior(refused, tmp_path):
    encoder = {"width": 32, "channel_mult": (1,), "num_blocks": 1}
    config = tiny.patch_config(
        codes={"kind": "encoder", "network": encoder},
        train={"num_steps": 2, "grid_every": 2},
        eval={"every": 2, "fixed_num": 8},
    )
    with jax.numpy_dtype_promotion("standard"):  # optax mixes weak and strong types
        assert train(config, tmp_path / "run", tiny.patch_dataset(config)) == 2
    said = refused("sample", f"--workdir={tmp_path / 'run'}", f"--out={tmp_path / 'x.png'}")
    assert "has no latent prior; train one in" in said


def test_what_does_not_fit_is_said(refused, first, prior_file, workdir, tmp_path):
    wrong = tmp_path / "wrong"
    config = tiny.prior_config(codes={"dim": 8})
    with Checkpoints(wrong, config.checkpoint) as checkpoints:
        state = {"params": random_weights(config, 0), "ema": random_weights(config, 0)}
        checkpoints.save(0, state, {}, to_dict(config))
    out = f"--out={tmp_path / 'x.png'}"
    sample = "sample", f"--workdir={first}", out
    assert "makes codes of 8 numbers; this model takes 16" in refused(*sample, f"--prior={wrong}")
    assert "system 'patch_dm', not a code_prior" in refused(*sample, f"--prior={first}")
    assert "is a prior of semantic codes" in refused("sample", f"--workdir={wrong}", out)
    assert "--prior is for models with semantic codes" in refused(
        "sample", f"--workdir={workdir}", f"--prior={wrong}", out
    )
    train = "train", f"--config={prior_file}", f"--workdir={tmp_path / 'new'}"
    assert "reads codes:WORKDIR of a first run" in refused(*train, "--config.data.source=builtin:digits")
    assert "has no semantic codes" in refused(*train, f"--config.data.source=codes:{workdir}")
    assert "a prior makes codes and no pictures" in refused(
        *train, f"--config.data.source=codes:{first}", "--config.train.grid_every=2"
    )
    assert "have 16 numbers; set config.codes.dim to that" in refused(
        *train, f"--config.data.source=codes:{first}", "--config.codes.dim=8"
    )
    assert not (tmp_path / "new").exists()


def test_only_what_is_dropped_in_training_can_be_guided(refused, tmp_path):
    config = tiny.patch_config(codes={"num": 12}, loss={"code_dropout": 0.0})
    with Checkpoints(tmp_path / "run", config.checkpoint) as checkpoints:
        state = {"params": random_weights(config, 0), "ema": random_weights(config, 0)}
        checkpoints.save(0, state, {}, to_dict(config))
    said = refused("sample", f"--workdir={tmp_path / 'run'}", "--guidance=2", f"--out={tmp_path / 'x.png'}")
    assert "train with config.loss.code_dropout and config.loss.position_dropout above 0" in said
