"""Parts of a split model: their ranges, their configs, and what cannot be split."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import read, to_dict
from pdm_jax.errors import UserError
from pdm_jax.systems import make_system, parts_of
from pdm_jax.types import Cond, Step
from tests import tiny


def ranges(config):
    return [(part.name, part.start, part.stop) for part in parts_of(config)]


def test_a_model_that_is_not_split_is_one_part_with_its_own_config():
    config = tiny.config()
    (part,) = parts_of(config)
    assert (part.name, part.start, part.stop) == ("", 0, 1000)
    assert read(type(config), to_dict(part.config)) == read(type(config), to_dict(config))


def test_a_boundary_makes_two_halves_and_the_noisiest_comes_first():
    config = tiny.config(split={"boundaries": 396})
    assert ranges(config) == [("high", 396, 1000), ("low", 0, 396)]
    assert ranges(tiny.config(split={"snr": 0.25})) == ranges(config)  # PDM_FACTS: SNR 0.25 is step 396
    high, low = (part.config.loss for part in parts_of(config))
    assert (high.t_min, high.t_max, low.t_min, low.t_max) == (396, 999, 0, 396)  # PDM never trains the last step
    assert ranges(tiny.config(split={"boundaries": (700, 300)})) == [
        ("part0", 700, 1000),
        ("part1", 300, 700),
        ("part2", 0, 300),
    ]


def test_parts_differ_in_what_their_overrides_say():
    config = tiny.config(
        model={"patch_size": (2, 1)},
        split={
            "boundaries": 396,
            "parts": ({}, {"optimizer": {"learning_rate": 5e-5}, "model": {"network": {"width": 64}}}),
        },
    )
    high, low = (part.config for part in parts_of(config))
    assert (high.model.patch_size, low.model.patch_size) == (2, 1)
    assert (high.optimizer.learning_rate, low.optimizer.learning_rate) == (1e-3, 5e-5)
    assert low.optimizer.warmup_steps == high.optimizer.warmup_steps
    assert low.model.network == {**high.model.network, "width": 64}
    assert not low.split.boundaries


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"boundaries": 0}, "puts a boundary at step 0; expected 1 to 999"),
        ({"boundaries": 1000}, "puts a boundary at step 1000"),
        ({"snr": 1e9}, "puts a boundary at step 0"),
        ({"snr": -1.0}, "signal-to-noise ratio of -1.0 is not possible"),
        ({"boundaries": (300, 700)}, r"has the boundaries \[300, 700\]; expected descending"),
        ({"boundaries": 396, "snr": 0.25}, "has boundaries and snr; give one of them"),
        ({"boundaries": 396, "parts": ({},)}, "has 1 parts, the boundaries .* make 2"),
        ({"boundaries": 396, "parts": ({}, {"data": {"image_size": 8}})}, r"parts\[1\].data cannot differ"),
        ({"boundaries": 396, "parts": ({}, {"model": {"num_classes": 3}})}, "num_classes cannot differ"),
        ({"boundaries": 396, "parts": ({}, {"optimizer": 3})}, r"parts\[1\].optimizer is 3; expected a group"),
        ({"boundaries": 396, "parts": ({}, {"optimizer": {"lr": 3}})}, r"parts\[1\].optimizer.lr is not a config key"),
    ],
)
def test_splits_that_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        parts_of(tiny.config(split=settings))


def test_patch_sizes_fit_the_networks():
    with pytest.raises(UserError, match="has 2 sizes for 1 networks"):
        parts_of(tiny.config(model={"patch_size": (2, 1)}))
    with pytest.raises(UserError, match="patch_size is 0; expected at least 1"):
        parts_of(tiny.config(model={"patch_size": 0}))


def test_the_whole_asks_each_network_in_its_own_range():
    config = tiny.config(model={"patch_size": (2, 1)}, split={"boundaries": 396})
    system = make_system(config)
    params = jax.jit(system.init)(jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.01, params)  # outputs begin as zeros
    z, cond = jax.random.normal(jax.random.key(1), (2, 4, 4, 1)), Cond(label=jnp.array([0, 1]))
    for part in parts_of(config):
        own = make_system(part.config)
        for t in (part.start, part.stop - 1):
            whole = system.denoiser(params)(z, Step(t=jnp.int32(t)), cond)
            alone = own.denoiser(params[part.name])(z, Step(t=jnp.int32(t)), cond)
            np.testing.assert_allclose(whole.x0, alone.x0, rtol=1e-5, atol=1e-5)
    assert not system.losses


@pytest.mark.parametrize(
    "backbone, network",
    [
        ("adm_unet", {"width": 32, "channel_mult": (1,), "num_blocks": 1, "head_dim": 32}),
        ("vit", {"width": 16, "depth": 2, "head_dim": 8}),
    ],
)
def test_other_backbones_train(backbone, network):
    config = tiny.config()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, backbone=backbone, network=network))
    system = make_system(config)
    params = jax.jit(system.init)(jax.random.key(0))
    batch = {"image": jnp.zeros((2, 4, 4, 1), jnp.uint8), "label": jnp.array([0, 1])}
    loss, terms = jax.jit(system.losses["network"])(params, batch, jax.random.split(jax.random.key(1), 2), jnp.int32(0))
    assert np.isfinite(loss).all() and set(terms) == {"simple", "vlb"}


def test_labels_are_not_dropped_without_a_null_label():
    network = {"width": 32, "channel_mult": (1,), "num_blocks": 1, "head_dim": 32, "has_null": False}
    with pytest.raises(UserError, match="label_dropout needs a null label"):
        make_system(tiny.config(model={"backbone": "adm_unet", "network": network}))


def test_a_backbone_that_does_not_exist():
    with pytest.raises(UserError, match=r"backbone is 'unet'; expected one of pdm_unet, adm_unet, vit"):
        make_system(tiny.config(model={"backbone": "unet"}))
