"""The PDM system: its loss, its null condition, and the settings it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax import rng
from pdm_jax.errors import UserError
from pdm_jax.systems import make_system
from pdm_jax.types import Cond
from tests import tiny

NETWORK = tiny.SETTINGS["model"]["network"]


@pytest.fixture(scope="module")
def batch():
    images = jax.random.randint(jax.random.key(1), (4, 4, 4, 1), 0, 255).astype(jnp.uint8)
    return {"image": images, "label": jnp.arange(4) % 2}


def per_sample(config, batch, keys):
    system = make_system(config)
    params = jax.jit(system.init)(jax.random.key(0))
    return jax.jit(system.losses["network"])(params, batch, keys, jnp.int32(0))


def test_the_loss_of_a_sample_depends_on_its_own_key_only(batch):
    keys = rng.sample_keys(jax.random.key(2), jnp.arange(4))
    values, terms = per_sample(tiny.config(), batch, keys)
    order = jnp.array([2, 0, 3, 1])
    shuffled, _ = per_sample(tiny.config(), jax.tree.map(lambda x: x[order], batch), keys[order])
    np.testing.assert_allclose(shuffled, values[order], rtol=1e-5)
    np.testing.assert_allclose(values, terms["simple"] + 1.0 * terms["vlb"], rtol=1e-6)


def test_vlb_weight_scales_its_term(batch):
    keys = rng.sample_keys(jax.random.key(2), jnp.arange(4))
    values, terms = per_sample(tiny.config(loss={"vlb_weight": 7.0}), batch, keys)
    np.testing.assert_allclose(values, terms["simple"] + 7.0 * terms["vlb"], rtol=1e-6)


def test_dropped_labels_become_the_null_label(batch):
    keys = rng.sample_keys(jax.random.key(2), jnp.arange(4))
    always = tiny.config(loss={"label_dropout": 1.0})
    a, _ = per_sample(always, batch, keys)
    b, _ = per_sample(always, {**batch, "label": 1 - batch["label"]}, keys)
    np.testing.assert_array_equal(a, b)
    never = tiny.config(loss={"label_dropout": 0.0})
    c, _ = per_sample(never, {**batch, "label": jnp.full(4, 2)}, keys)  # the null label
    np.testing.assert_allclose(a, c, rtol=1e-6)


def test_null_keeps_the_shape_and_drops_the_class():
    null = make_system(tiny.config()).null({}, Cond(label=jnp.array([0, 1, 1])))
    np.testing.assert_array_equal(null.label, [2, 2, 2])


@pytest.mark.parametrize("kind, target, prediction", [("mse", "eps", "eps"), ("mse", "v", "v"), ("mse", "x0", "eps")])
def test_plain_losses_of_other_predictions_are_finite_and_positive(batch, kind, target, prediction):
    config = tiny.config(
        loss={"kind": kind, "target": target, "vlb_weight": 0.0},
        model={"prediction": prediction, "network": {**NETWORK, "learn_variance": False}},
    )
    values, terms = per_sample(config, batch, rng.sample_keys(jax.random.key(2), jnp.arange(4)))
    assert values.shape == (4,) and bool(jnp.all(values > 0)) and bool(jnp.all(jnp.isfinite(values)))
    assert terms.keys() == {"simple"}


@pytest.mark.parametrize(
    "groups, message",
    [
        ({"model": {"system": "gan"}}, "model.system is 'gan'; expected one of pdm"),
        ({"model": {"patch_size": 3}}, "4x4 cannot be cut into patches of 3x3"),
        ({"model": {"network": {"width": 32, "channel_mult": (1, 2, 2)}}}, "network.num_blocks is missing"),
        ({"model": {"network": {**NETWORK, "depth": 3}}}, "network.depth is no setting"),
        (
            {"model": {"network": {"width": 32, "channel_mult": (1, 2, 2), "num_blocks": 1, "head_dim": 32}}},
            "a grid of 2x2 patches cannot be halved 2 times",
        ),
        (
            {"model": {"network": {"width": 32, "channel_mult": (1,), "num_blocks": 1}}},
            "attention on 32 channels needs a multiple of 64",
        ),
        ({"model": {"network": {**NETWORK, "width": "wide"}}}, "network.width is 'wide'; expected int"),
        ({"model": {"network": {**NETWORK, "channel_mult": 1}}}, "network.channel_mult is 1; expected a list of float"),
        ({"model": {"network": {**NETWORK, "num_blocks": 1.5}}}, "num_blocks is 1.5; expected int or a list of int"),
        ({"model": {"network": {**NETWORK, "num_blocks": 0}}}, "each level needs at least 1"),
        ({"model": {"network": {**NETWORK, "learn_variance": "maybe"}}}, "learn_variance is 'maybe'; expected bool"),
        ({"model": {"dtype": "float16"}}, "dtype is 'float16'"),
        ({"model": {"prediction": "score"}}, "prediction is 'score'"),
        ({"loss": {"kind": "huber"}}, "loss.kind is 'huber'"),
        ({"loss": {"target": "eps"}}, "loss.target is 'eps'"),
        ({"loss": {"t_max": 1001}}, "t_max is 1001; expected at most T, 1000"),
        ({"loss": {"t_min": 999}}, r"trains steps \[999, 999\); expected 0 <= t_min < t_max <= 1000"),
    ],
)
def test_settings_that_do_not_fit_are_named(groups, message):
    with pytest.raises(UserError, match=message):
        make_system(tiny.config(**groups))
