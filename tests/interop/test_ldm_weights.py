"""latent-diffusion's whole checkpoints: names and shapes as released, exact round trips, errors that name things."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from pdm_jax.config import Config, read
from pdm_jax.diffusion import Process, make_process
from pdm_jax.errors import UserError
from pdm_jax.interop import ldm
from pdm_jax.interop.ldm_config import translate
from pdm_jax.systems.conditions import make_conditions
from pdm_jax.systems.latent import make_first_stage, make_space
from pdm_jax.systems.ldm import make_network
from tests import tiny

KEYS = Path(__file__).parents[3] / "shared/reference/keys"
FIRST_STAGES = {"cin256-v2": "vq-f4", "inpainting_big": "vq-f4-noattn", "lsun_churches256": "kl-f8"}
TEXT = {
    "kinds": ("text", "inpaint"),
    "networks": {"text": {"vocab_size": 9, "max_length": 5, "width": 8, "num_layers": 1}},
}


def networks_of(config: Config) -> tuple[ldm.Networks, Process]:
    space = make_space(config)
    conditions = make_conditions(config, space)
    networks = ldm.Networks(make_network(config, conditions), conditions.definitions, space.definition)
    return networks, make_process(config.diffusion)


def official(name: str) -> dict:
    """The program's arguments of a released model."""
    unet, stage = (json.loads((KEYS / f"ldm_{n}.json").read_text()) for n in (f"unet_{name}", FIRST_STAGES[name]))
    stage_config = {"target": stage["kind"], "params": stage["config"]}
    return unet["other_params"] | {"unet_config": {"params": unet["unet_config"]}, "first_stage_config": stage_config}


@pytest.mark.slow
@pytest.mark.skipif(not KEYS.is_dir(), reason="the full reference is not beside the checkout")
@pytest.mark.parametrize("name", FIRST_STAGES)
def test_released_names_and_shapes(name):
    groups = translate(official(name))
    groups["data"] |= {"source": "memory", "batch_size": 8}
    networks, process = networks_of(read(Config, {**groups, "optimizer": {}}))
    expected = {
        key: tuple(shape) for key, shape in json.loads((KEYS / f"ldm_full_checkpoint_{name}.json").read_text())["keys"]
    }
    shapes = ldm.official_shapes(networks, process.num_steps)
    if name == "lsun_churches256":
        assert groups["latent"]["scale"] is None and groups["loss"]["kind"] == "l1"
        shapes[ldm.SCALE] = ()
    if name == "inpainting_big":  # the first stage makes conditions as well
        stage = networks.shapes()["first_stage"]
        shapes |= {key.replace("first_stage_model.", "cond_stage_model."): shape for key, shape in stage.items()}
    assert shapes == expected


@functools.cache
def made_up() -> tuple[ldm.Networks, Process, ldm.Weights, dict[str, np.ndarray]]:
    """A model that reads text and fills holes, weights of it that are all different, and its state dict."""
    networks, process = networks_of(tiny.ldm_config(condition=TEXT))
    generator = np.random.default_rng(0)
    parts = {"unet": networks.unet, **networks.readers, "average": networks.unet, "stage": networks.first_stage}
    trees = {
        name: jax.tree.map(lambda x: generator.standard_normal(x.shape, np.float32), each.shapes)
        for name, each in parts.items()
    }
    params = {"unet": trees["unet"], "text": trees["text"]}
    weights = ldm.Weights(params, params | {"unet": trees["average"]}, trees["stage"], 0.5)
    return networks, process, weights, ldm.to_official(weights, networks, process)


def assert_same(got: ldm.Weights, wanted: ldm.Weights) -> None:
    assert got.scale == wanted.scale
    for name in ("params", "ema", "first_stage"):
        jax.tree.map(np.testing.assert_array_equal, getattr(got, name), getattr(wanted, name))


def error_of(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip_is_exact():
    networks, process, weights, tensors = made_up()
    assert {name: x.shape for name, x in tensors.items() if name != ldm.SCALE} == ldm.official_shapes(networks, 1000)
    unused = {f"cond_stage_model.transformer.to_logits.{kind}": np.zeros(9) for kind in ("weight", "bias")}
    assert_same(ldm.load(tensors | unused | {"first_stage_model.loss.logvar": np.zeros(())}, networks), weights)
    ldm.check_schedule(tensors, process)


def test_without_averages_and_scale():
    """As files of models with use_ema false and without scale_by_std."""
    networks, _, weights, tensors = made_up()
    bare = {name: x for name, x in tensors.items() if not name.startswith("model_ema.") and name != ldm.SCALE}
    assert_same(ldm.load(bare, networks), dataclasses.replace(weights, ema=weights.params, scale=None))


def test_averages_go_by_names_without_dots():
    name = "model.diffusion_model.time_embed.0.weight"
    assert ldm.averaged_name(name) == "model_ema.diffusion_modeltime_embed0weight"
    networks, _, _, tensors = made_up()
    del (tensors := dict(tensors))[ldm.averaged_name(name)]
    assert "1 missing: model_ema.diffusion_modeltime_embed0weight" in error_of(ldm.load, tensors, networks)


def test_a_first_stage_that_is_there_twice():
    networks, _, weights, tensors = made_up()
    twice = {name.replace("first_stage_model.", "cond_stage_model."): x for name, x in tensors.items()}
    both = tensors | {name: x for name, x in twice.items() if name.startswith("cond_stage_model.")}
    assert_same(ldm.load(both, networks), weights)
    both["cond_stage_model.quant_conv.bias"] = both["cond_stage_model.quant_conv.bias"] + 1
    assert "two versions of first_stage_model.quant_conv.bias" in error_of(ldm.load, both, networks)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("kl", {"channel_mult": (1, 1, 1)}, "the first stage's f is 4 in the file and 2 by the config"),
        ("kl", {"embed_dim": 4}, "the number of channels of latents is 4 in the file and 3 by the config"),
        ("vq", {"num_codes": 7}, "the number of codes (0 for kl) is 7 in the file and 0 by the config"),
    ],
)
def test_a_file_of_another_model_says_what_differs(kind, changes, message):
    networks, _, _, tensors = made_up()
    latent = {"kind": kind, "network": {**tiny.LDM["latent"]["network"], **changes}}
    other, _, _ = make_first_stage(tiny.ldm_config(latent=latent).latent, 3)
    shapes = dataclasses.replace(networks, first_stage=other).shapes()["first_stage"]
    own = {name: x for name, x in tensors.items() if not name.startswith("first_stage_model.")}
    assert message in error_of(ldm.load, own | {name: np.zeros(shape) for name, shape in shapes.items()}, networks)


def test_names_that_nothing_has():
    networks, _, _, tensors = made_up()
    assert "1 surplus: extra (got (3,))" in error_of(ldm.load, tensors | {"extra": np.zeros(3)}, networks)


def test_another_schedule():
    _, process, _, tensors = made_up()
    other = make_process(tiny.ldm_config(diffusion={"beta_max": 0.0205}).diffusion)
    message = error_of(ldm.check_schedule, tensors, other)
    assert "1000 steps, beta 0.0015 to 0.0195" in message and "0.0015 to 0.0205" in message
    damaged = tensors | {"posterior_mean_coef2": tensors["posterior_mean_coef2"] * np.float32(1.01)}
    assert "posterior_mean_coef2 differs" in error_of(ldm.check_schedule, damaged, process)


def test_a_first_stage_alone_or_within_a_model():
    networks, _, weights, tensors = made_up()
    prefix = "first_stage_model."
    alone = {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
    for given in (alone, tensors, alone | {"loss.logvar": np.zeros(())}):
        found = ldm.load_first_stage(given, networks.first_stage)
        jax.tree.map(np.testing.assert_array_equal, found, weights.first_stage)
    del alone["quant_conv.bias"]
    assert "1 missing: quant_conv.bias" in error_of(ldm.load_first_stage, alone, networks.first_stage)


UNET = {"in_channels": 3, "out_channels": 3, "model_channels": 32, "num_res_blocks": 1, "attention_resolutions": [],
        "channel_mult": [1], "num_heads": 1}  # fmt: skip
DDCONFIG = {"z_channels": 3, "resolution": 16, "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1, "in_channels": 3,
            "out_ch": 3, "attn_resolutions": [], "double_z": True}  # fmt: skip
PARAMS = {
    "image_size": 8,
    "timesteps": 10,
    "parameterization": "x0",
    "unet_config": {"params": UNET},
    "first_stage_config": {
        "target": "ldm.models.autoencoder.AutoencoderKL",
        "params": {"ddconfig": DDCONFIG, "embed_dim": 3},
    },
    "cond_stage_config": "__is_unconditional__",
}


def test_translation():
    groups = translate(PARAMS)
    assert groups["data"] == {"image_size": 16, "channels": 3}
    assert groups["diffusion"] == {"schedule": "ldm_linear", "num_steps": 10, "beta_min": 1e-4, "beta_max": 2e-2}
    assert groups["loss"] == {"kind": "mse", "target": "x0", "t_max": 10}
    assert groups["condition"]["kinds"] == () and groups["latent"]["scale"] == 1.0
    conditions = {
        "class": (
            {"target": "a.ClassEmbedder", "params": {"embed_dim": 8, "n_classes": 5}},
            "class_label",
            "crossattn",
        ),
        "layout": (
            {"target": "a.BERTEmbedder", "params": {"n_embed": 8, "n_layer": 1}},
            "coordinates_bbox",
            "crossattn",
        ),
        "text": ({"target": "a.BERTEmbedder", "params": {"n_embed": 8, "n_layer": 1}}, "caption", None),
        "semantic": ({"target": "a.SpatialRescaler"}, "segmentation", None),
        "superres": ({"target": "torch.nn.Identity"}, "LR_image", None),
        "inpaint": ("__is_first_stage__", "masked_image", None),
    }
    for kind, (stage, key, way) in conditions.items():
        told = {"cond_stage_config": stage, "cond_stage_key": key, "conditioning_key": way}
        found = translate(PARAMS | told)
        assert found["condition"]["kinds"] == (kind,), kind
        assert found["model"]["num_classes"] == (4 if kind == "class" else 0)
    assert (
        translate(PARAMS | {"cond_stage_config": conditions["class"][0]}, has_null=False)["model"]["num_classes"] == 5
    )


def test_what_cannot_be_translated():
    assert "lacks image_size" in error_of(translate, {name: x for name, x in PARAMS.items() if name != "image_size"})
    assert "v_posterior 0.5; only 0.0" in error_of(translate, PARAMS | {"v_posterior": 0.5})
    assert "loss_type 'huber'; only l1, l2" in error_of(translate, PARAMS | {"loss_type": "huber"})
    stage = {"target": "a.Other", "params": {}}
    assert "first stage Other" in error_of(translate, PARAMS | {"first_stage_config": stage})
