"""`pdm import` and `pdm export` end to end, on a network of the smallest official kind."""

import argparse
import dataclasses
import json

import jax
import numpy as np
import pytest

from pdm_jax.checkpoints import Checkpoints
from pdm_jax.cli import weights
from pdm_jax.cli.config_files import load_config
from pdm_jax.config import to_dict
from pdm_jax.errors import UserError
from pdm_jax.interop import adm, pdm, safetensors_files
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.restore import read_config, restore_model
from pdm_jax.systems import make_system, parts_of
from pdm_jax.systems.pdm import make_network
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.resume import begin
from pdm_jax.training.state import plan_state
from tests import tiny
from tests.interop import pt_writer


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    """The tiny config as a file."""
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    settings = json.loads(json.dumps(tiny.SETTINGS))
    path.write_text(
        f"from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({settings})\n"
    )
    return path


@pytest.fixture(scope="module")
def network():
    """The tiny network's definition, and parameters that are all different."""
    config = tiny.config()
    definition = make_network(config.model, config.data.channels)
    generator = np.random.default_rng(0)
    return definition, jax.tree.map(lambda s: generator.standard_normal(s.shape, np.float32), definition.shapes)


@pytest.fixture(scope="module")
def torch_file(network, tmp_path_factory):
    """The parameters as the PyTorch program saves them."""
    return pt_writer.write(tmp_path_factory.mktemp("weights") / "ema.pt", pdm.to_torch(network[1], network[0]))


@pytest.fixture(scope="module")
def imported(torch_file, config_file, tmp_path_factory):
    """A workdir of imported weights."""
    workdir = tmp_path_factory.mktemp("runs") / "imported"
    assert run("import", torch_file, "--format=pdm-torch", f"--config={config_file}", f"--workdir={workdir}") == 0
    return workdir


def run(*arguments, overrides=()) -> int:
    parser = argparse.ArgumentParser()
    weights.add_parsers(parser.add_subparsers())
    args = parser.parse_args([str(argument) for argument in arguments])
    return args.run(argparse.Namespace(**vars(args) | {"overrides": list(overrides)}))


def error_of(*arguments) -> str:
    with pytest.raises(UserError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def stored(workdir):
    shapes = make_system(tiny.config()).shapes
    shapes = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    with Checkpoints(workdir) as checkpoints:
        state = checkpoints.restore({"ema": shapes, "params": shapes}, partial=True).state
        return checkpoints.config(), [state[kind]["network"] for kind in ("ema", "params")]


def test_imported_weights_and_epsilon_are_stored(imported, network):
    config, (ema, params) = stored(imported)
    jax.tree.map(np.testing.assert_array_equal, ema, network[1])
    jax.tree.map(np.testing.assert_array_equal, params, network[1])
    assert config["model"]["network"]["norm_eps"] == pdm.TORCH_NORM_EPS
    expected = to_dict(tiny.config())
    expected["model"]["network"]["norm_eps"] = pdm.TORCH_NORM_EPS
    assert json.loads(json.dumps(expected)) == config


def test_an_epsilon_that_was_set_is_kept(torch_file, config_file, tmp_path):
    arguments = ("import", torch_file, "--format=pdm-torch", f"--config={config_file}", f"--workdir={tmp_path}")
    assert run(*arguments, overrides=["--config.model.network.norm_eps=0.001"]) == 0
    assert stored(tmp_path)[0]["model"]["network"]["norm_eps"] == 1e-3


@pytest.mark.parametrize("place", ["device", "host"])
def test_training_goes_on_from_imported_weights(imported, network, config_file, torch_file, tmp_path, place):
    arguments = ("import", torch_file, "--format=pdm-torch", f"--config={config_file}", f"--workdir={tmp_path}")
    assert run(*arguments, overrides=[f"--config.ema.place={place}"]) == 0
    with Checkpoints(tmp_path) as checkpoints:
        stored_network = checkpoints.config()["model"]["network"]
    config = tiny.config(model={"network": stored_network}, ema={"place": place})
    system = make_system(config)
    plan = plan_state(system, make_optimizer(config.optimizer), config.ema, make_mesh(config.mesh))
    with Checkpoints(tmp_path, config.checkpoint) as checkpoints:
        position = begin(*parts_of(config), plan, checkpoints, iter(tiny.dataset(config)))
    assert position.step == 0
    ema = position.host_ema.values if place == "host" else position.state.ema
    for tree in (position.state.params, ema):
        jax.tree.map(np.testing.assert_array_equal, tree["network"], network[1])


def test_tf_weights_go_by_position(network, config_file, tmp_path):
    definition, params = network
    names = [[f"layer_{i}", "w:0", []] for i, _ in enumerate(pdm.to_official(params, definition))]
    arrays = {f"{g}/{w}": array for (g, w, _), array in zip(names, pdm.to_official(params, definition), strict=True)}
    safetensors_files.write(tmp_path / "weights.safetensors", arrays, {})
    (tmp_path / "meta.json").write_text(json.dumps({"layout": names}))
    arguments = (tmp_path / "weights.safetensors", "--format=pdm-tf", f"--config={config_file}")
    assert run("import", *arguments, f"--workdir={tmp_path / 'run'}") == 0
    config, (ema, _) = stored(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, ema, params)
    assert "norm_eps" not in config["model"]["network"]


def test_import_errors(torch_file, imported, config_file, tmp_path):
    config, workdir = f"--config={config_file}", f"--workdir={tmp_path / 'new'}"
    assert "already holds checkpoints" in error_of(
        "import", torch_file, "--format=pdm-torch", config, f"--workdir={imported}"
    )
    assert "cannot read" in error_of("import", tmp_path / "no.pt", "--format=pdm-torch", config, workdir)
    assert "not a sound safetensors" in error_of("import", torch_file, "--format=pdm-tf", config, workdir)
    pt_writer.write(tmp_path / "few.pt", {"time_embed.0.weight": np.zeros((2, 2), np.float32)})
    message = error_of("import", tmp_path / "few.pt", "--format=pdm-torch", config, workdir)
    assert "1 misshapen: time_embed.0.weight (got (2, 2), wanted (128, 32)); 66 missing: label_embs" in message
    assert not (tmp_path / "new").exists()


def test_export(imported, network, tmp_path, capsys):
    out = tmp_path / "weights.safetensors"
    assert run("export", out, f"--workdir={imported}", "--format=safetensors") == 0
    tensors, metadata = safetensors_files.read(out)
    expected = {".".join(str(k.key) for k in path): leaf for path, leaf in jax.tree.leaves_with_path(network[1])}
    assert set(tensors) == {f"network.{name}" for name in expected}
    for name, array in expected.items():
        np.testing.assert_array_equal(tensors[f"network.{name}"], array)
    assert (metadata["weights"], metadata["step"]) == ("ema", "0")
    assert json.loads(metadata["config"])["model"]["patch_size"] == 2
    assert "step 0" in capsys.readouterr().out


def test_export_errors(imported, tmp_path):
    out, options = tmp_path / "weights.safetensors", ("--format=safetensors", f"--workdir={imported}")
    out.write_text("mine")
    assert "--force to replace it" in error_of("export", out, *options)
    assert out.read_text() == "mine"
    assert run("export", out, *options, "--force", "--weights=params", "--step=0") == 0
    assert safetensors_files.read(out)[1]["weights"] == "params"
    assert "no checkpoint" in error_of("export", tmp_path / "x", *options, "--step=7")
    assert "no checkpoint" in error_of("export", tmp_path / "x", "--format=safetensors", f"--workdir={tmp_path}")
    assert "cannot write" in error_of("export", tmp_path / "no" / "x", *options)


def test_guided_diffusions_weights_and_halves(config_file, torch_file, network, tmp_path):
    overrides = ["--config.model.backbone=adm_unet", "--config.model.prediction=eps", "--config.loss.kind=mse"]
    overrides += ["--config.loss.target=eps", "--config.loss.vlb_weight=0", "--config.loss.label_dropout=0"]
    model = load_config(str(config_file), overrides).model
    definition = make_network(
        dataclasses.replace(model, network={**model.network, "has_null": False}), tiny.config().data.channels
    )
    generator = np.random.default_rng(1)
    params = jax.tree.map(lambda s: generator.standard_normal(s.shape, np.float32), definition.shapes)
    file = pt_writer.write(tmp_path / "adm.pt", adm.to_official(params, definition))
    workdir = tmp_path / "adm"
    arguments = ("import", file, "--format=adm", f"--config={config_file}", f"--workdir={workdir}")
    assert run(*arguments, overrides=overrides) == 0
    config = read_config(workdir)
    assert config.model.network["has_null"] is False
    model = restore_model(workdir, make_system(config), config, make_mesh(config.mesh))
    jax.tree.map(np.testing.assert_array_equal, model.params["network"], params)

    halves = tmp_path / "halves"
    for half in ("low", "high"):
        arguments = ("import", torch_file, "--format=pdm-torch", f"--config={config_file}", f"--workdir={halves}")
        assert run(*arguments, f"--half={half}", overrides=["--config.split.snr=0.25"]) == 0
    config = read_config(halves)
    model = restore_model(halves, make_system(config), config, make_mesh(config.mesh))
    assert model.step == "high 0, low 0"
    for half in ("high", "low"):
        jax.tree.map(np.testing.assert_array_equal, model.params[half]["network"], network[1])
