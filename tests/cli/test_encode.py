"""`pdm data encode`: latents by the first stage of a run, which are told from those of another."""

import dataclasses

import jax
import numpy as np
import pytest

from pdm_jax.checkpoints import Checkpoints
from pdm_jax.cli.config_files import load_config
from pdm_jax.config import MeshConfig, to_dict
from pdm_jax.data import make_dataset
from pdm_jax.errors import UserError
from pdm_jax.ops.images import to_float
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.encode import check_latents, open_encoder
from pdm_jax.systems.latent import FIRST_STAGE, make_space
from pdm_jax.training.frozen import with_first_stage
from tests import tiny
from tests.cli.conftest import random_weights

_CONFIG = """
from tests import tiny
from pdm_jax.config import to_dict

def get_config():
    import ml_collections
    return ml_collections.ConfigDict(to_dict(tiny.ldm_config(
        data={{"source": "builtin:digits", "image_size": 8, "batch_size": 512, "flip": True}},
        latent={{"first_stage": {path!r}}},
    )))
"""


def _first_stage(path, seed):
    config = tiny.autoencoder_config()
    with Checkpoints(path, config.checkpoint) as checkpoints:
        checkpoints.save(
            0, {"params": random_weights(config, seed), "ema": random_weights(config, seed)}, {}, to_dict(config)
        )
    return str(path)


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory):
    return _first_stage(tmp_path_factory.mktemp("first_stage"), 0)


@pytest.fixture
def config_file(tmp_path, first_stage):
    path = tmp_path / "config.py"
    path.write_text(_CONFIG.format(path=first_stage))
    return path


def test_latents_are_those_of_the_first_stage_and_of_no_other(pdm, config_file, tmp_path):
    out = tmp_path / "digits.array_record"
    status, said, log = pdm("data", "encode", f"--config={config_file}", str(out), "--dtype=float32")
    assert status == 0, log
    assert "1797 images by the first stage " in said and "0 skipped" in said

    config = load_config(str(config_file))
    latents = make_dataset(dataclasses.replace(config.data, source=f"latents:{out}", batch_size=5), config.seed)
    images = make_dataset(dataclasses.replace(config.data, batch_size=5), config.seed)
    params = {FIRST_STAGE: random_weights(tiny.autoencoder_config(), 0)[FIRST_STAGE]}
    moments = jax.jit(lambda images: make_space(config).moments(params, to_float(images)))
    encoded, batch = next(latents.once()), next(images.once())
    np.testing.assert_array_equal(encoded["label"], batch["label"])
    np.testing.assert_allclose(encoded["moments"], moments(batch["image"]), rtol=1e-4, atol=1e-4)

    check_latents(latents, params[FIRST_STAGE])
    check_latents(images, params[FIRST_STAGE])
    other = random_weights(tiny.autoencoder_config(), 1)[FIRST_STAGE]
    with pytest.raises(UserError, match=r"was encoded by the first stage \w{8}, and that of this run is \w{8}; encode"):
        check_latents(latents, other)


def test_small_batches_and_shards_change_nothing(config_file):
    config = with_first_stage(load_config(str(config_file), ["--config.data.batch_size=6"]))
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, config.data.channels), np.uint8)
    encode, name = open_encoder(config, make_mesh(MeshConfig(data=2, fsdp=2), jax.devices()[:4]))
    alone, same = open_encoder(config, make_mesh(MeshConfig(), jax.devices()[:1]))
    assert name == same
    np.testing.assert_allclose(encode(images)[:2], alone(images[:2]), rtol=1e-4, atol=1e-4)


def test_without_a_first_stage_nothing_is_encoded(refused, config_file, tmp_path):
    out = tmp_path / "x.array_record"
    arguments = "data", "encode", f"--config={config_file}", str(out)
    assert "config.latent.first_stage is not set" in refused(*arguments, "--config.latent.first_stage=None")
    assert "config.data.crop is 'random'" in refused(*arguments, "--config.data.crop=random")
    assert "latents:here" in refused(*arguments, "--config.data.source=latents:here")
    assert not out.exists()
