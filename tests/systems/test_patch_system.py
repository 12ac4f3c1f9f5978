"""Patch-DM as a system: shapes, what is dropped, guidance, what does not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.networks import count_params
from pdm_jax.systems import make_system, patch_loss
from pdm_jax.types import Step
from tests import tiny

ENCODER = {"width": 32, "channel_mult": (1, 1), "num_blocks": 1}


def table(**groups):
    return tiny.patch_config(codes={"num": 12}, **groups)


@pytest.fixture(scope="module")
def system():
    return make_system(table())


@pytest.fixture(scope="module")
def params(system):
    return jax.tree.map(lambda x: x + 0.05, jax.jit(system.init)(jax.random.key(0)))


def test_parameters_are_a_network_and_a_table(system):
    assert sorted(system.shapes) == ["codes", "network"] and sorted(system.networks(system.shapes)) == ["network"]
    assert system.shapes["codes"]["table"].shape == (12, 16)
    assert sorted(system.inputs) == ["image", "index"] and sorted(system.told) == ["code"]


def test_an_encoder_is_trained_with_the_network():
    own = make_system(tiny.patch_config(codes={"kind": "encoder", "network": ENCODER}))
    assert sorted(own.shapes) == ["network"] and sorted(own.shapes["network"]) == ["encoder", "unet"]
    params = jax.jit(own.init)(jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.01, params)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3)).astype(np.uint8)
    assert jax.eval_shape(own.codes, params, {"image": images}).shape == (2, 16)
    keys = jax.random.split(jax.random.key(0), 2)
    loss = own.losses["network"]
    grads = jax.jit(jax.grad(lambda p: loss(p, {"image": images}, keys, jnp.int32(0))[0].sum()))(params)
    assert all(float(jnp.abs(x).sum()) > 0 for x in jax.tree.leaves(grads["network"]["encoder"]["conv_in"]))


def test_denoising_uses_code_and_position_and_the_null_has_neither(system, params):
    z = jax.random.normal(jax.random.key(0), (2, 16, 24, 3))
    code = jax.random.normal(jax.random.key(1), (2, 16))
    cond = system.cond(params, {"code": code}, z.shape)
    assert cond.position.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(cond.position[0, 2, 3], [2, 3, 1])
    denoiser = jax.jit(lambda cond: system.denoiser(params)(z, Step(t=jnp.int32(500)), cond).eps)
    full, nothing = denoiser(cond), denoiser(system.null(params, cond))
    no_code = denoiser(dataclasses.replace(cond, code=jnp.zeros_like(code)))
    no_place = denoiser(dataclasses.replace(cond, position=system.null(params, cond).position))
    eps = [full, no_code, no_place, nothing]
    assert all(float(jnp.abs(a - b).max()) > 1e-4 for i, a in enumerate(eps) for b in eps[:i])
    other = denoiser(system.null(params, dataclasses.replace(cond, code=2 * code)))
    np.testing.assert_array_equal(other, nothing)


def test_positions_are_dropped_as_often_as_they_are_told():
    """Images of one colour have windows alike: with the same noise only their positions tell them apart."""
    keys = jnp.broadcast_to(jax.random.split(jax.random.key(0), 1), 6)
    starts = jnp.array([[-4, -4], [4, 4], [-4, 12], [4, 4], [4, -4], [-4, 4]])

    def told(dropout):
        config = table(loss={"position_dropout": dropout, "code_dropout": 0.0})
        batch = {"code": jnp.zeros((6, 16))}
        return patch_loss._cond(config, {}, batch, keys, starts, None).position

    assert (told(0.0)[..., 2] == 1).all() and (told(1.0)[..., 2] == 0).all()
    np.testing.assert_array_equal(told(0.0)[1, ..., :2], [[[1, 1], [1, 2]], [[2, 1], [2, 2]]])


def test_the_loss_drops_codes_as_often_as_it_is_told():
    """With everything dropped the loss does not depend on the code."""
    images = np.zeros((8, 16, 24, 3), np.uint8)
    keys = jax.random.split(jax.random.key(0), 8)

    def difference(dropout):
        own = make_system(table(loss={"code_dropout": dropout, "position_dropout": 0.0}))
        params = jax.tree.map(lambda x: x + 0.05, jax.jit(own.init)(jax.random.key(0)))
        batch, apply = {"image": images}, own.losses["network"]
        loss = jax.jit(lambda code: apply(params, batch | {"code": code}, keys, jnp.int32(0))[0])
        return np.abs(loss(jnp.ones((8, 16))) - loss(jnp.full((8, 16), 3.0)))

    assert (difference(0.0) > 0).all() and (difference(1.0) == 0).all()
    assert 0 < (difference(0.5) > 0).sum() < 8


def test_the_released_network_and_the_papers():
    network = {"width": 64, "channel_mult": (1, 2, 4, 8), "num_blocks": 2}

    def size(**changes):
        config = tiny.patch_config(
            data={"image_size": (512, 1024)}, model={"patch_size": 64}, codes={"dim": 512, "num": 5}
        )
        model = dataclasses.replace(config.model, network=network | changes)
        return count_params(make_system(dataclasses.replace(config, model=model)).shapes["network"])

    assert round(size(attn_levels=(2,)) / 1e6, 2) == 71.40
    assert round(size() / 1e6, 2) == 70.09


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"data": {"image_size": 20}}, "20x20 is not a whole number of 8x8 patches; .* pad it to 24x24"),
        ({"data": {"image_size": (8, 8, 8)}}, r"image_size is \[8, 8, 8\]; expected one number, or \(height, width\)"),
        ({"model": {"patch_size": 6}, "data": {"image_size": 12}}, "a patch size of 6 cannot be halved"),
        ({"model": {"backbone": "vit"}}, "backbone is 'vit'; the system patch_dm has patch_unet"),
        ({"model": {"num_classes": 2}}, "patch_unet takes no labels"),
        (
            {"model": {"backbone": "adm_unet", "network": {"width": 32, "channel_mult": (1,), "num_blocks": 1}}},
            "no codes",
        ),
        ({"loss": {"kind": "mse"}}, "config.loss.kind is 'mse'; expected 'shifted' or 'both' or 'plain'"),
        ({"loss": {"target": "x0"}}, "config.loss.target is 'x0'; expected 'eps'"),
        ({"codes": {"kind": "text"}}, "config.codes.kind is 'text'"),
        ({"codes": {"optimizer": "sgd"}}, "config.codes.optimizer is 'sgd'"),
        ({"codes": {"num": None}}, "config.codes.num is not set"),
        ({"codes": {"kind": "encoder", "network": {"width": 32}}}, "config.codes.network.channel_mult is missing"),
        ({"loss": {"t_min": 5, "t_max": 5}}, r"trains steps \[5, 5\)"),
        ({"model": {"dtype": "bf16"}}, "config.model.dtype is 'bf16'; expected 'float32' or 'bfloat16'"),
        ({"loss": {"vlb_weight": 1.0}}, "config.loss.vlb_weight is 1.0; expected 0.0"),
        ({"model": {"system": "pdm"}}, "the system 'pdm' has no codes"),
        ({"split": {"boundaries": 500}}, "each part would learn codes of its own"),
    ],
)
def test_settings_that_do_not_fit_are_named(groups, message):
    groups = {"codes": {"num": 12}} | groups
    with pytest.raises(UserError, match=message):
        make_system(tiny.patch_config(**groups))


def test_other_networks_with_skips_and_labels():
    network = {"width": 32, "channel_mult": (1, 1), "num_blocks": 1, "head_dim": 32}
    config = tiny.patch_config(
        model={"backbone": "adm_unet", "network": network, "num_classes": 2},
        codes={"kind": "none"},
        loss={"label_dropout": 0.5},
    )
    own = make_system(config)
    assert own.has_null and own.dropouts == ("label_dropout",)
    params = jax.jit(own.init)(jax.random.key(0))
    batch = {"image": np.zeros((2, 16, 24, 3), np.uint8), "label": np.array([0, 1], np.int32)}
    loss, _ = jax.jit(own.losses["network"])(params, batch, jax.random.split(jax.random.key(0), 2), jnp.int32(0))
    assert loss.shape == (2,) and bool(jnp.isfinite(loss).all())
