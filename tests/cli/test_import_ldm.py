"""`pdm import --format=ldm`: a checkpoint as its program saves it becomes a run that samples, exports and goes on."""

import json

import jax
import numpy as np
import pytest

from pdm_jax.cli.weight_files import read_ldm
from pdm_jax.config import Config, read, to_dict
from pdm_jax.data.tokenizer import load_tokenizer, train_tokenizer
from pdm_jax.interop import ldm, ldm_autoencoder, safetensors_files
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.restore import read_config, restore_model
from pdm_jax.systems import make_system
from pdm_jax.systems.autoencoder import define_critic
from pdm_jax.systems.conditions import make_conditions
from pdm_jax.systems.latent import make_first_stage
from pdm_jax.systems.ldm import make_network
from tests import tiny
from tests.interop import pt_writer

VOCABULARY = 40
TEXT = {"vocab_size": VOCABULARY, "max_length": 5, "width": 8, "num_layers": 1}


def drawn(shapes, seed):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda x: (0.1 * generator.standard_normal(x.shape)).astype(np.float32), shapes)


def restored(workdir, kind="ema"):
    config = read_config(workdir)
    return restore_model(workdir, make_system(config), config, make_mesh(config.mesh), weights=kind).params


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tokeniser, and configs of a model that reads text and of its first stage."""
    folder = tmp_path_factory.mktemp("ldm")
    train_tokenizer(["a red cat", "a blue dog"], VOCABULARY, 5).save(folder / "bert.json")
    condition = {"kinds": ("text",), "networks": {"text": TEXT}, "tokenizer": str(folder / "bert.json")}
    text = tiny.ldm_config(condition=condition, loss={"context_dropout": 0.1})
    for name, config in {"text": text, "stage": tiny.autoencoder_config(reconstruction={"critic_weight": 0.5})}.items():
        settings = json.loads(json.dumps(to_dict(config)))
        (folder / f"{name}.py").write_text(f"def get_config():\n    return {settings}\n")
        (folder / f"{name}.json").write_text(json.dumps(settings))
    return folder


def config_of(folder, name) -> Config:
    return read(Config, json.loads((folder / f"{name}.json").read_text()))


@pytest.fixture(scope="module")
def checkpoint(folder):
    """Weights, and the file in which the program would have saved them."""
    config = config_of(folder, "text")
    system = make_system(config)
    conditions = make_conditions(config, system.space)
    networks = ldm.Networks(make_network(config, conditions), conditions.definitions, system.space.definition)
    params = {name: drawn(each.shapes, i) for i, (name, each) in enumerate(conditions.definitions.items())}
    average = params | {"unet": drawn(networks.unet.shapes, 8)}
    params["unet"] = drawn(networks.unet.shapes, 9)
    weights = ldm.Weights(params, average, drawn(networks.first_stage.shapes, 10), 0.25)
    tensors = ldm.to_official(weights, networks, system.process)
    return weights, pt_writer.write(folder / "model.ckpt", tensors), tensors


@pytest.fixture(scope="module")
def arguments(folder, checkpoint):
    """Of the command, but for the workdir."""
    return ("import", checkpoint[1], "--format=ldm", f"--config={folder / 'text.py'}")


@pytest.fixture
def imported(pdm, arguments, tmp_path):
    """A workdir of the checkpoint."""
    assert pdm(*arguments, f"--workdir={tmp_path / 'run'}")[0] == 0
    return tmp_path / "run"


@pytest.mark.slow
def test_a_model_is_imported_sampled_and_exported(pdm, imported, checkpoint, folder, tmp_path):
    weights, _, _ = checkpoint
    for kind in ("params", "ema"):
        found = restored(imported, kind)
        jax.tree.map(np.testing.assert_array_equal, found["network"], getattr(weights, kind))
        jax.tree.map(np.testing.assert_array_equal, found["first_stage"], weights.first_stage)
        assert found["scale"] == 0.25
    assert found["null_tokens"].tolist() == [2, 3, 0, 0, 0]  # [CLS] [SEP] [PAD] ...
    kept = imported / "tokenizer.json"
    tokens = [load_tokenizer(path, 5)("a red cat").tolist() for path in (kept, folder / "bert.json")]
    assert tokens[0] == tokens[1]

    out = tmp_path / "samples.npz"
    sample = ("sample", f"--workdir={imported}", "--num=2", "--batch-size=2", "--prompt=a red cat", "--guidance=2")
    status, _, log = pdm(*sample, f"--out={out}")
    assert status == 0, log
    assert np.load(out)["arr_0"].std() > 1

    out = tmp_path / "weights.safetensors"
    assert pdm("export", out, "--format=safetensors", f"--workdir={imported}")[0] == 0
    tensors, metadata = safetensors_files.read(out)
    assert {name.split(".")[0] for name in tensors} == {"network", "first_stage", "scale", "null_tokens"}
    assert tensors["scale"].shape == () and tensors["scale"] == 0.25
    kernel = weights.first_stage["decoder"]["conv_out"]["kernel"]
    np.testing.assert_array_equal(tensors["first_stage.decoder.conv_out.kernel"], kernel)
    assert metadata["tokenizer"] == kept.read_text()


def stage_tensors(folder):
    """A first stage, its tensors as the program saves them, and those of a critic."""
    config = config_of(folder, "stage")
    definition, _, _ = make_first_stage(config.latent, 3)
    stage, shapes = (
        drawn(definition.shapes, 1),
        ldm_autoencoder.official_critic_shapes(define_critic(config, (16, 16, 3))),
    )
    critic = {f"loss.discriminator.{name}": np.full(shape, 0.5) for name, shape in shapes.items()}
    return stage, ldm_autoencoder.to_official(stage, definition) | {"loss.logvar": np.zeros(1)}, critic


@pytest.mark.slow
def test_a_first_stage_is_imported_with_its_critic(pdm, folder, tmp_path):
    stage, tensors, critic = stage_tensors(folder)
    file, run = pt_writer.write(tmp_path / "model.ckpt", tensors | critic), tmp_path / "run"
    arguments = ("import", file, "--format=ldm", f"--config={folder / 'stage.py'}", f"--workdir={run}")
    assert pdm(*arguments)[0] == 0
    found = restored(run)
    jax.tree.map(np.testing.assert_array_equal, found["first_stage"], stage)
    assert all((x == 0.5).all() for x in jax.tree.leaves(found["critic"]))


def test_a_first_stage_without_a_critic_or_within_a_model(folder, checkpoint, tmp_path):
    stage, tensors, _ = stage_tensors(folder)
    for file, wanted in (
        (pt_writer.write(tmp_path / "bare.ckpt", tensors), stage),
        (checkpoint[1], checkpoint[0].first_stage),
    ):
        _, found = read_ldm(file, config_of(folder, "stage"))
        assert found["params"].keys() == {"first_stage"} and found["frozen"] == {}
        jax.tree.map(np.testing.assert_array_equal, found["params"]["first_stage"], wanted)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("latent.scale=1.0", "multiplies latents by 0.25 and config.latent.scale is 1"),
        ("diffusion.beta_max=0.0205", "noise schedule (1000 steps, beta 0.0015 to 0.0195) is not the config's"),
        ("latent.network.embed_dim=4", "number of channels of latents is 3 in the file and 4 by the config"),
        ("latent.network.channel_mult=(1,1,1)", "the first stage's f is 2 in the file and 4 by the config"),
        ("model.network.width=64", "the U-Net's width is 32 in the file and 64 by the config"),
        ("condition.networks.text.num_layers=2", "missing: cond_stage_model.transformer.attn_layers.layers.2."),
        ("condition.tokenizer=None", "config.condition.tokenizer is not set"),
        ("condition.tokenizer=/nowhere.json", "the tokeniser /nowhere.json cannot be read"),
        ("latent.kind='none'", "config.latent.kind is 'none' and files of ldm have a first stage"),
        ("model.system=pdm", "--format=ldm is for the system 'ldm' with the backbone 'ldm_unet' or 'autoencoder'"),
    ],
)
def test_a_config_of_another_model_writes_nothing(refused, arguments, tmp_path, setting, message):
    said = refused(*arguments, f"--workdir={tmp_path / 'run'}", f"--config.{setting}")
    assert message in said
    assert not (tmp_path / "run").exists()


def test_damaged_and_unsafe_files_write_nothing(refused, arguments, checkpoint, tmp_path):
    def said_of(file):
        line = refused("import", file, *arguments[2:], f"--workdir={tmp_path / 'run'}")
        assert not (tmp_path / "run").exists()
        return line

    _, whole, tensors = checkpoint
    (tmp_path / "cut.ckpt").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert "cut.ckpt is not a sound PyTorch file" in said_of(tmp_path / "cut.ckpt")
    hostile = pt_writer.write_archive(tmp_path / "hostile.ckpt", b"cos\nsystem\n(Vtrue\ntR.", {})
    assert "holds os.system, which is no tensor and is not loaded" in said_of(hostile)
    bare = pt_writer.write(tmp_path / "bare.ckpt", {name: x for name, x in tensors.items() if name != ldm.SCALE})
    assert "does not say what latents are multiplied by, and config.latent.scale is None" in said_of(bare)


def test_perceptual_network_must_be_in_the_file(refused, checkpoint, folder, tmp_path):
    arguments = (
        "import",
        checkpoint[1],
        "--format=ldm",
        f"--config={folder / 'stage.py'}",
        "--config.data.image_size=32",
    )
    said = refused(*arguments, f"--workdir={tmp_path / 'run'}", "--config.reconstruction.perceptual=vgg.pth,heads.pth")
    assert "the file has no perceptual network (loss.perceptual_loss.*)" in said
