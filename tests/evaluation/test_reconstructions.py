"""Images of a first stage beside their originals, in the library and from the command line."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from pdm_jax.checkpoints import Checkpoints
from pdm_jax.cli import main
from pdm_jax.config import to_dict
from pdm_jax.errors import UserError
from pdm_jax.evaluation.image_sets import ImageSet, pairs
from pdm_jax.evaluation.pairs import psnr, ssim
from pdm_jax.evaluation.reconstructions import Reconstructions
from pdm_jax.ops.images import to_uint8
from pdm_jax.pipelines.restore import Model
from pdm_jax.systems import make_system
from tests import tiny
from tests.systems.autoencoder_config import first_stage_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven pictures of 16x16."""
    path = tmp_path_factory.mktemp("pictures")
    images = np.random.default_rng(0).integers(0, 256, (11, 16, 16, 3)).astype(np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / f"{i:02d}.png")
    return path, images


@pytest.fixture(scope="module")
def model():
    """A first stage nobody trained."""
    config = first_stage_config()
    system = make_system(config)
    return Model(config, system, jax.jit(system.init)(jax.random.key(0)), {"": 0}, {})


def test_each_original_is_drawn_again_in_its_place(folder, model):
    path, images = folder
    originals = ImageSet(str(path))
    found = Reconstructions(originals, model)
    assert len(found) == 11 and found.image_shape == (16, 16, 3)
    wanted = np.asarray(to_uint8(jax.jit(model.system.reconstruct)(model.params, images)))
    batches = list(pairs(found, originals, 8))
    assert [len(batch["image"]) for batch in batches] == [8, 3]
    drawn = np.concatenate([batch["image"] for batch in batches])
    assert np.abs(drawn.astype(int) - wanted).max() <= 1
    np.testing.assert_array_equal(np.concatenate([batch["original"] for batch in batches]), images)
    second = np.concatenate([b["image"] for b in found.batches(8, process_index=1, process_count=2)])
    np.testing.assert_array_equal(second, drawn[1::2])


def test_only_a_first_stage_reconstructs(folder):
    config = tiny.config()
    with pytest.raises(UserError, match="only a first stage"):
        Reconstructions(ImageSet(str(folder[0])), Model(config, make_system(config), {}, {"": 0}, {}))


@pytest.fixture(scope="module")
def workdir(folder, model, tmp_path_factory):
    """The run of `model`, on the pictures."""
    path = tmp_path_factory.mktemp("run")
    config = first_stage_config(data={"source": str(folder[0])})
    with Checkpoints(path, config.checkpoint) as checkpoints:
        state = {"params": model.params, "ema": model.params, "frozen": {}}
        checkpoints.save(0, state, {}, to_dict(config))
    return path


def test_scores_of_a_run(workdir, folder, model, capsys):
    with jax.numpy_dtype_promotion("standard"):
        assert main(["eval", f"--workdir={workdir}", "--metrics=psnr,ssim", "--num=11", "--batch-size=8"]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines()[:2])
    images = jnp.asarray(folder[1])
    found = to_uint8(jax.jit(model.system.reconstruct)(model.params, images))
    assert float(printed["psnr"]) == pytest.approx(float(psnr(found, images).mean()), rel=1e-3)
    assert float(printed["ssim"]) == pytest.approx(float(ssim(found, images).mean()), abs=1e-3)
    with (workdir / "eval" / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert {row["num"], row["num_reference"]} == {"11"} and row["reference"] == str(folder[0])


def test_flags_of_sampling_are_refused(workdir, capsys):
    assert main(["eval", f"--workdir={workdir}", "--guidance=2"]) == 2
    assert "--guidance is of sampling" in capsys.readouterr().err
