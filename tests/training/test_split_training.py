"""Training the parts of a split model: in turn, apart, resumed in either, and restored whole."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from pdm_jax.checkpoints import Checkpoints, parts_in
from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.restore import read_config, restore_model
from pdm_jax.systems import make_system, parts_of
from pdm_jax.training import train
from tests import tiny
from tests.training.test_loop import Interrupting, assert_same

pytestmark = pytest.mark.filterwarnings("ignore:Some donated buffers")
SPLIT = {
    "boundaries": 396,
    "parts": ({"train": {"num_steps": 4}}, {"train": {"num_steps": 6}, "optimizer": {"learning_rate": 5e-4}}),
}


@pytest.fixture(autouse=True)
def optax_promotes():
    with jax.numpy_dtype_promotion("standard"):
        yield


def split_config(**groups):
    return tiny.config(split=SPLIT, checkpoint={"save_every": 2}, **groups)


def state_of(workdir, part, step=None):
    with Checkpoints(workdir, part=part) as checkpoints:
        restored = checkpoints.restore({"ema": shapes(part), "params": shapes(part)}, step=step, partial=True)
    leaves = jax.tree_util.tree_leaves_with_path(restored.state)
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}


def shapes(part):
    config = next(each.config for each in parts_of(split_config()) if each.name == part)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), make_system(config).shapes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("split")
    config = split_config(train={"grid_every": 4})
    with jax.numpy_dtype_promotion("standard"):
        assert train(config, workdir, tiny.dataset(config)) == 6
    return workdir


def test_both_halves_are_in_one_folder_of_checkpoints(trained):
    assert parts_in(trained) == ["high", "low"]
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["high", "low"]
    for part, steps in (("high", [2, 4]), ("low", [2, 4, 6])):
        with Checkpoints(trained, part=part) as checkpoints:
            assert checkpoints.steps() == steps
        assert (trained / part / "metrics.jsonl").exists() and (trained / part / "grids" / "00000004.png").exists()


def test_one_restore_gives_the_whole(trained):
    config = read_config(trained)
    system = make_system(config)
    model = restore_model(trained, system, config, make_mesh(MeshConfig()), weights="ema", step=None)
    assert model.steps == {"high": 4, "low": 6} and model.step == "high 4, low 6"
    for part in ("high", "low"):
        own = state_of(trained, part)
        for path, leaf in jax.tree_util.tree_leaves_with_path(model.params[part]):
            np.testing.assert_array_equal(leaf, own["['ema']" + jax.tree_util.keystr(path)])


@pytest.mark.slow
def test_a_run_killed_in_either_half_goes_on_exactly(trained, tmp_path):
    def crash():
        raise RuntimeError("power cut")

    config = split_config()
    for at in (3, 5):  # in the first half, then in the second; a half that is complete asks for no batch
        with pytest.raises(RuntimeError, match="power cut"):
            train(config, tmp_path, Interrupting(tiny.dataset(config), at, crash))
    assert parts_in(tmp_path) == ["high", "low"]
    assert train(config, tmp_path, tiny.dataset(config)) == 6
    for part in ("high", "low"):
        assert_same(state_of(trained, part), state_of(tmp_path, part))


def test_the_low_half_begins_with_the_averaged_weights_of_the_high_one(tmp_path, caplog):
    caplog.set_level("INFO", "pdm_jax")
    config = split_config()
    low = {**SPLIT["parts"][1], "train": {"num_steps": 1}, "optimizer": {"learning_rate": 0.0}}
    config = dataclasses.replace(config, split=dataclasses.replace(config.split, parts=(SPLIT["parts"][0], low)))
    train(config, tmp_path, tiny.dataset(config))
    high, low = state_of(tmp_path, "high"), state_of(tmp_path, "low")
    assert_same({k: v for k, v in high.items() if "ema" in k}, {k: v for k, v in low.items() if "ema" in k})
    assert "low starts from the averaged weights of high" in caplog.text


@pytest.mark.slow
def test_what_does_not_fit_another_patch_size_is_not_taken_over(tmp_path, caplog):
    caplog.set_level("INFO", "pdm_jax")
    config = split_config(model={"patch_size": (2, 1)})
    assert train(config, tmp_path, tiny.dataset(config)) == 6
    (line,) = [line for line in caplog.messages if "low starts from" in line]
    assert "new are network/conv_in/kernel" in line
    system = make_system(config)
    model = restore_model(tmp_path, system, config, make_mesh(MeshConfig()), weights="ema", step=None)
    kernels = [model.params[part]["network"]["conv_in"]["kernel"].shape for part in ("high", "low")]
    assert kernels == [(3, 3, 4, 32), (3, 3, 1, 32)]


@pytest.mark.slow
def test_a_half_is_trained_alone_and_the_model_is_not_whole_before(trained, tmp_path, caplog):
    config = split_config()
    assert train(config, tmp_path, tiny.dataset(config), part="low") == 6
    assert "low starts from nothing: high is not complete in" in caplog.text
    system, mesh = make_system(config), make_mesh(MeshConfig())
    with pytest.raises(UserError, match=r"lacks the part high of its model; train it with: pdm train .* --half=high"):
        restore_model(tmp_path, system, read_config(tmp_path), mesh, weights="ema", step=None)
    assert train(config, tmp_path, tiny.dataset(config), part="high") == 4
    assert restore_model(tmp_path, system, config, mesh, weights="ema", step=None).step == "high 4, low 6"
    assert_same(state_of(trained, "high"), state_of(tmp_path, "high"))


def test_what_cannot_be_trained_here(trained, tmp_path):
    config, plain = split_config(), tiny.config()
    with pytest.raises(UserError, match="has no part 'left'; it has high, low"):
        train(config, tmp_path, tiny.dataset(config), part="left")
    with pytest.raises(UserError, match="has no part 'high'; it is not split"):
        train(plain, tmp_path, tiny.dataset(plain), part="high")
    with pytest.raises(UserError, match=r"holds the parts high, low, which this config.split does not make"):
        train(plain, trained, tiny.dataset(plain))
    train(plain, tmp_path, tiny.dataset(plain))
    with pytest.raises(UserError, match=r"holds a model that is not split, which this config.split does not make"):
        train(config, tmp_path, tiny.dataset(config))


def test_another_config_of_one_half_is_refused_there(trained, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run")
    low = {**SPLIT["parts"][1], "optimizer": {"learning_rate": 1e-5}}
    config = split_config()
    config = dataclasses.replace(config, split=dataclasses.replace(config.split, parts=(SPLIT["parts"][0], low)))
    assert train(config, workdir, tiny.dataset(config), part="high") == 4  # nothing of it has changed
    with pytest.raises(UserError, match=r"config.optimizer.learning_rate: 0.0005 -> 1e-05"):
        train(config, workdir, tiny.dataset(config), part="low")
