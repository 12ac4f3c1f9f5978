"""Official names of first stages, exact round trips, and errors that name what does not fit."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.interop import ldm_autoencoder
from pdm_jax.interop.ldm_autoencoder_config import translate
from pdm_jax.networks import Autoencoder, PatchCritic, count_params, define
from pdm_jax.networks.lpips import LPIPS

KEYS = Path(__file__).parents[3] / "shared/reference/keys"
OFFICIAL = {
    "double_z": False,
    "z_channels": 3,
    "resolution": 64,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 4,
    "ch_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [32],
    "dropout": 0.0,
}


def definition_of(ddconfig, embed_dim=2, num_codes=5):
    settings = translate(ddconfig, embed_dim, num_codes)
    return define(lambda rngs: Autoencoder(**settings, rngs=rngs))


def random_like(shapes):
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda s: generator.standard_normal(s.shape, np.float32), shapes)


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def random_tensors(shapes, prefix=""):
    generator = np.random.default_rng(0)
    return {prefix + name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.skipif(not KEYS.is_dir(), reason="the full reference is not beside the checkout")
@pytest.mark.parametrize("name", ["kl-f4", "kl-f8", "kl-f16", "vq-f4", "vq-f4-noattn", "vq-f8"])
def test_names_shapes_and_order_are_the_official_ones(name):
    official = json.loads((KEYS / f"ldm_{name}.json").read_text())
    config, losses = official["config"], official["config"]["lossconfig"]["params"]
    definition = definition_of(config["ddconfig"], config["embed_dim"], config.get("n_embed"))
    found = ldm_autoencoder.official_shapes(definition)
    assert [[name, list(shape)] for name, shape in found.items()] == official["keys"]
    assert count_params(definition.shapes) == official["params"]

    critic = define(lambda rngs: PatchCritic(num_layers=losses.get("disc_num_layers", 3), rngs=rngs))
    tensors = random_tensors({key: tuple(shape) for key, shape in official["loss_keys"]})
    assert count_params(ldm_autoencoder.load_critic(tensors, critic)) == official["loss_trainable_disc_params"]
    perceptual = define(lambda rngs: LPIPS("vgg", rngs=rngs))
    loaded = ldm_autoencoder.load_perceptual(tensors, perceptual.shapes)
    np.testing.assert_array_equal(
        loaded["backbone"]["stages"][4][2]["bias"], tensors["loss.perceptual_loss.net.slice5.28.bias"]
    )


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_there_and_back(kind):
    definition = definition_of(OFFICIAL | {"double_z": kind == "kl"}, num_codes=5 if kind == "vq" else None)
    params = random_like(definition.shapes)
    tensors = ldm_autoencoder.to_official(params, definition)
    assert {name: x.shape for name, x in tensors.items()} == ldm_autoencoder.official_shapes(definition)
    surplus = {"loss.logvar": np.zeros((), np.float32)}  # what its own training adds
    assert_equal(ldm_autoencoder.load(tensors | surplus, definition), params)
    kernel = tensors["decoder.up.1.attn.0.q.weight"]
    np.testing.assert_array_equal(kernel[:, :, 0, 0], params["decoder"]["levels"][1]["attentions"][0]["q"]["kernel"].T)


def test_a_critic_is_loaded_without_its_statistics():
    definition = define(lambda rngs: PatchCritic(width=4, num_layers=2, rngs=rngs))
    shapes = ldm_autoencoder.official_critic_shapes(definition)
    tensors = random_tensors(shapes, "loss.discriminator.")
    surplus = {"loss.discriminator.main.3.running_mean": np.zeros(8, np.float32)}
    params = ldm_autoencoder.load_critic(tensors | surplus, definition)
    np.testing.assert_array_equal(params["norms"][0]["scale"], tensors["loss.discriminator.main.3.weight"])
    assert params["convs"][1]["kernel"].shape == (4, 4, 8, 16)
    with pytest.raises(UserError, match=r"1 missing: main.0.bias"):
        ldm_autoencoder.load_critic(
            {name: x for name, x in tensors.items() if not name.endswith("main.0.bias")}, definition
        )


def test_what_does_not_fit_is_listed():
    definition = definition_of(OFFICIAL)
    tensors = ldm_autoencoder.to_official(random_like(definition.shapes), definition)
    del tensors["quantize.embedding.weight"]
    tensors["quant_conv.weight"] = tensors["quant_conv.weight"][:1]
    with pytest.raises(UserError, match=r"1 misshapen: quant_conv.weight .*1 missing: quantize.embedding.weight"):
        ldm_autoencoder.load(tensors, definition)


def test_attention_is_placed_by_level():
    settings = translate(OFFICIAL, 2, 5)
    assert settings["attn_levels"] == (1,) and settings["mid_attention"] and settings["kind"] == "vq"
    settings = translate(OFFICIAL | {"attn_type": "none"}, 2, 5)
    assert settings["attn_levels"] == () and not settings["mid_attention"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ch": None}, "lacks ch;"),
        ({"depth": 3}, "unknown keys depth;"),
        ({"double_z": True}, "double_z True; only False can be built for vq"),
        ({"attn_type": "linear"}, "attn_type 'linear'; only 'vanilla' and 'none'"),
        ({"tanh_out": True}, "tanh_out True"),
    ],
)
def test_configs_that_cannot_be_built_are_refused(changes, message):
    official = {key: value for key, value in (OFFICIAL | changes).items() if value is not None}
    with pytest.raises(UserError, match=message):
        translate(official, 2, 5)
