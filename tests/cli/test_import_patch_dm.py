"""`pdm import --format=patch-dm`: networks, codes and both copies of a checkpoint."""

import jax
import numpy as np
import pytest

from pdm_jax.cli.weight_files import read_patch_dm
from pdm_jax.config import Config, read
from pdm_jax.interop import patch_dm
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.restore import read_config, restore_model
from pdm_jax.systems import code_prior, make_system
from pdm_jax.systems import patch_dm as patch_dm_system
from tests import tiny
from tests.interop import pt_writer

PATCH_DM = {
    "data": {"source": "memory", "image_size": 8, "channels": 1, "batch_size": 2},
    "model": {
        "system": "patch_dm",
        "backbone": "patch_unet",
        "patch_size": 4,
        "prediction": "eps",
        "network": {"width": 32, "channel_mult": (1,), "num_blocks": 1, "embed_dim": 4},
    },
    "codes": {"kind": "table", "dim": 4},
    "loss": {"kind": "both", "target": "eps"},
    "optimizer": {},
}
CODE_PRIOR = PATCH_DM | {
    "model": {"system": "code_prior", "prediction": "eps", "network": {"width": 8, "num_layers": 2}},
    "codes": {"dim": 4},
    "loss": {"kind": "l1", "target": "eps"},
}
ENCODER = {"kind": "encoder", "dim": 4, "network": {"width": 32, "channel_mult": (1,), "num_blocks": 1}}


@pytest.fixture(scope="module")
def patch_dm_file(tmp_path_factory):
    """A checkpoint with a table of three codes and a latent network; its networks and tensors, averages are twice."""
    config = read(Config, PATCH_DM)
    networks = {
        "unet": patch_dm_system.make_network(config.model, config.codes, 1),
        "latent": code_prior.make_network(read(Config, CODE_PRIOR)),
    }
    generator = np.random.default_rng(0)
    model = {patch_dm.TABLE: generator.standard_normal((3, 4), np.float32)}
    for name, definition in networks.items():
        params = jax.tree.map(lambda s: generator.standard_normal(s.shape, np.float32), definition.shapes)
        model |= patch_dm.to_official(params, definition, name)
    copies = {f"model.{name}": array for name, array in model.items()}
    copies |= {f"ema_model.{name}": 2 * array for name, array in model.items()}
    return pt_writer.write(tmp_path_factory.mktemp("weights") / "last.ckpt", copies), networks, model


def write_config(folder, settings):
    path = folder / "config.py"
    path.write_text(
        f"from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({settings})\n"
    )
    return path


def import_patch_dm(pdm, file, folder, settings):
    """Imports; returns the stored config and the restored params and ema."""
    path, workdir = write_config(folder, settings), folder / "run"
    assert pdm("import", file, "--format=patch-dm", f"--config={path}", f"--workdir={workdir}")[0] == 0
    config = read_config(workdir)
    system, mesh = make_system(config), make_mesh(config.mesh)
    return config, [restore_model(workdir, system, config, mesh, weights=kind).params for kind in ("params", "ema")]


def loaded(patch_dm_file, network, factor):
    _, networks, model = patch_dm_file
    return patch_dm.load({name: factor * array for name, array in model.items()}, networks[network], network)


def test_patch_dms_latent_network(pdm, patch_dm_file, tmp_path):
    _, copies = import_patch_dm(pdm, patch_dm_file[0], tmp_path, CODE_PRIOR)
    for copy, factor in zip(copies, (1, 2), strict=True):
        jax.tree.map(np.testing.assert_array_equal, copy["network"], loaded(patch_dm_file, "latent", factor))


@pytest.mark.slow
def test_patch_dms_network_and_table(pdm, patch_dm_file, tmp_path):
    config, copies = import_patch_dm(pdm, patch_dm_file[0], tmp_path, PATCH_DM)
    assert config.codes.num == 3
    for copy, factor in zip(copies, (1, 2), strict=True):
        jax.tree.map(np.testing.assert_array_equal, copy["network"]["unet"], loaded(patch_dm_file, "unet", factor))
        np.testing.assert_array_equal(copy["codes"]["table"], factor * patch_dm_file[2][patch_dm.TABLE])


def test_patch_dms_weights_have_the_places_of_the_system(patch_dm_file, tmp_path):
    file, _, model = patch_dm_file
    found, copies = read_patch_dm(file, read(Config, PATCH_DM))
    shapes = make_system(found).shapes
    jax.tree.map(lambda array, leaf: np.testing.assert_equal(array.shape, leaf.shape), copies["ema"], shapes)

    config = read(Config, PATCH_DM | {"codes": ENCODER})
    encoder = patch_dm_system.make_encoder(config.codes, "float32", 1)
    params = jax.tree.map(lambda s: np.full(s.shape, 0.5, np.float32), encoder.shapes)
    tensors = {name: array for name, array in model.items() if name != patch_dm.TABLE}
    bare = pt_writer.write(tmp_path / "model.pt", tensors | patch_dm.to_official(params, encoder, "encoder"))
    found, copies = read_patch_dm(bare, config)
    assert found == config and copies.keys() == {"params", "ema"}
    jax.tree.map(
        lambda array, leaf: np.testing.assert_equal(array.shape, leaf.shape), copies["ema"], make_system(config).shapes
    )
    jax.tree.map(np.testing.assert_array_equal, copies["ema"]["network"]["encoder"], params)


def test_patch_dm_errors(refused, patch_dm_file, tmp_path):
    file, _, model = patch_dm_file
    arguments = ("import", file, "--format=patch-dm", f"--workdir={tmp_path / 'new'}")
    message = refused(*arguments, f"--config={write_config(tmp_path, tiny.SETTINGS)}")
    assert "the system 'patch_dm' with the backbone 'patch_unet' or 'code_prior'; the config's are 'pdm'" in message
    path = write_config(tmp_path, PATCH_DM | {"codes": {"kind": "table", "dim": 4, "num": 5}})
    assert "encoder.semantic_enc.weight (got (3, 4), wanted (5, 4))" in refused(*arguments, f"--config={path}")
    path = write_config(tmp_path, PATCH_DM | {"codes": ENCODER})
    assert "missing: encoder.input_blocks.0.0.weight" in refused(*arguments, f"--config={path}")
    bare = pt_writer.write(tmp_path / "bare.pt", {name: a for name, a in model.items() if name != patch_dm.TABLE})
    path = write_config(tmp_path, PATCH_DM)
    assert "has no table of codes" in refused("import", bare, *arguments[2:], f"--config={path}")
    assert not (tmp_path / "new").exists()
