"""A first stage, then diffusion of its latents: one config, two runs, frozen groups in every checkpoint."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from pdm_jax.checkpoints import Checkpoints
from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.generate import generate, make_generate
from pdm_jax.pipelines.restore import read_config, restore_model
from pdm_jax.systems import make_system
from pdm_jax.training import train
from pdm_jax.training.frozen import with_first_stage
from pdm_jax.training.stages import stages_of
from tests import tiny


@pytest.fixture(autouse=True)
def as_optax_needs_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Workdirs of both stages of a config, trained for two steps each."""
    workdir = tmp_path_factory.mktemp("runs") / "ldm"
    config = tiny.ldm_config(latent={"training": {"train": {"num_steps": 2}, "reconstruction": {"critic_width": 4}}})
    stages = stages_of(config, str(workdir))
    with jax.numpy_dtype_promotion("standard"):
        for stage, folder in stages:
            train(stage, folder, tiny.patch_dataset(stage))
    return stages


def state(folder):
    """Everything in the newest checkpoint, as numpy arrays."""
    with Checkpoints(folder) as checkpoints:
        config = read_config(folder)
        system = make_system(config)
        shapes = {"ema": system.shapes, "params": system.shapes, "frozen": system.frozen}
        shapes = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        return checkpoints.restore(shapes, partial=True).state


def test_the_first_stage_comes_first_and_stays_as_it_is(runs):
    (first, first_folder), (_, folder) = runs
    assert (first.model.system, first.reconstruction.critic_width) == ("autoencoder", 4)
    frozen, trained = state(folder)["frozen"], state(first_folder)["ema"]
    jax.tree.map(np.testing.assert_array_equal, frozen["first_stage"], trained["first_stage"])
    assert 0.01 < frozen["scale"] < 100 and frozen["scale"] != 1
    assert "critic" in trained and "critic" not in state(folder)["ema"]


def test_both_groups_are_trained_and_averaged(runs):
    trained = state(runs[0][1])
    started = make_system(runs[0][0]).init(jax.random.key(0))
    for group in ("first_stage", "critic"):
        moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), trained["params"][group], started[group])
        assert max(jax.tree.leaves(moved)) > 0
        assert not np.array_equal(*(jax.tree.leaves(trained[kind][group])[0] for kind in ("ema", "params"))), (
            f"{group} is not averaged"
        )


def test_going_on_needs_no_first_stage_and_changes_nothing_frozen(runs, tmp_path):
    config, folder = runs[1]
    copy = tmp_path / "moved"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("first_stage"))
    before = state(copy)["frozen"]
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=3))
    assert train(longer, copy, tiny.patch_dataset(config)) == 3
    jax.tree.map(np.testing.assert_array_equal, before, state(copy)["frozen"])


def test_one_restore_is_enough_to_make_images_of_any_size(runs):
    config = read_config(runs[1][1])
    larger = dataclasses.replace(config, data=dataclasses.replace(config.data, image_size=(16, 24)))
    system, mesh = make_system(larger), make_mesh(config.mesh, jax.devices()[:1])
    model = restore_model(runs[1][1], system, larger, mesh)
    for tile, batch_size in ((None, 2), (8, 1)):
        sampling = dataclasses.replace(config.sample, decode_tile=tile)
        run = make_generate(system, sampling, mesh)
        images = np.concatenate(list(generate(run, model.params, 0, 2, {}, mesh, batch_size=batch_size)))
        assert (images.shape, images.dtype) == ((2, 16, 24, 3), np.uint8)


def test_a_first_stage_of_another_kind_is_refused(runs, tmp_path):
    folder = runs[0][1]
    for groups, message in (
        ({"latent": {"kind": "vq", "first_stage": folder, "network": None}}, "has kind = 'kl' and this config 'vq'"),
        (
            {"latent": {"first_stage": folder, "network": {**NETWORK, "embed_dim": 2}}},
            "embed_dim = 3 and this config 2",
        ),
        ({"data": {"channels": 1}, "latent": {"first_stage": folder}}, "channels = 3 and this config 1"),
    ):
        with pytest.raises(UserError, match=message):
            with_first_stage(tiny.ldm_config(**groups), tmp_path)
    with pytest.raises(UserError, match="not an autoencoder"):
        with_first_stage(tiny.ldm_config(latent={"first_stage": runs[1][1]}), tmp_path)
    taken = with_first_stage(tiny.ldm_config(latent={"first_stage": folder, "network": None}), tmp_path)
    assert dict(taken.latent.network)["embed_dim"] == 3


NETWORK = tiny.LDM["latent"]["network"]


def test_a_first_stage_that_is_missing_is_named(tmp_path):
    config = tiny.ldm_config()
    with pytest.raises(UserError, match=r"config\.latent\.first_stage is not set"):
        train(config, tmp_path / "run", tiny.patch_dataset(config))


@pytest.mark.parametrize(
    ("latent", "message"),
    [
        ({"training": {}, "first_stage": "x"}, "leave out one of them"),
        ({"training": {}, "network": None}, "what is to be trained"),
        ({"training": {"train": {"steps": 3}}}, "config.latent.training.train.steps is not a config key"),
    ],
)
def test_stages_that_do_not_fit_are_named(latent, message, tmp_path):
    with pytest.raises(UserError, match=message):
        stages_of(tiny.ldm_config(latent=latent), str(tmp_path))


def test_a_first_stage_makes_no_images(runs):
    config = read_config(runs[0][1])
    with pytest.raises(UserError, match="no denoiser"):
        make_generate(make_system(config), config.sample, make_mesh(config.mesh, jax.devices()[:1]))


def test_another_run_goes_on_with_weights_and_first_stage(runs, tmp_path):
    _, folder = runs[1]
    images = {"image_size": (16, 32)}  # another size of images, the same parameters
    fine = tiny.ldm_config(data=images, train={"num_steps": 1})
    train(fine, tmp_path / "fine", tiny.patch_dataset(fine), init_from=folder)
    jax.tree.map(np.testing.assert_array_equal, state(tmp_path / "fine")["frozen"], state(folder)["frozen"])


def test_a_first_stage_is_trained_once(runs, tmp_path):
    """Neither a run that has begun nor one that takes over another's weights has another one."""
    config, folder = runs[1]
    config = dataclasses.replace(config, latent=dataclasses.replace(config.latent, first_stage=None))
    assert [where for _, where in stages_of(config, folder)] == [folder]
    assert len(stages_of(config, str(tmp_path / "new"), folder)) == 1
    assert len(stages_of(config, str(tmp_path / "new"))) == 2
    alike = dataclasses.replace(config.latent, network={**NETWORK, "mid_attention": True}, first_stage=runs[0][1])
    with_first_stage(dataclasses.replace(config, latent=alike), tmp_path / "new")  # a default that is said
