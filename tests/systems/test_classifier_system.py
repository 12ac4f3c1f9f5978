"""A classifier of noisy images: its objective, that it learns, and that its gradient steers sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pdm_jax.denoisers.steered import classifier_guided
from pdm_jax.diffusion import to_prediction
from pdm_jax.errors import UserError
from pdm_jax.systems import make_system
from pdm_jax.systems.classifier import make_log_prob
from pdm_jax.types import Cond, Step
from tests import tiny

NETWORK = {"width": 32, "channel_mult": (1,), "num_blocks": 1, "head_dim": 32}
MODEL = {"system": "classifier", "patch_size": 1, "network": NETWORK}
CONFIG = tiny.config(model=MODEL, loss={"label_dropout": 0.0, "vlb_weight": 0.0, "t_max": 300})
KEYS = jax.random.split(jax.random.key(0), 8)
BATCH = next(iter(tiny.dataset(CONFIG)))
BATCH = {name: jnp.asarray(BATCH[name]) for name in ("image", "label")}


@pytest.fixture(scope="module")
def trained():
    """Loss and accuracy [B] at first, losses on the way, parameters at last; images are bright or dark by class."""
    system = make_system(CONFIG)
    params, optimizer = jax.jit(system.init)(jax.random.key(1)), optax.adam(1e-2)

    def loss(params, keys):
        values, terms = system.losses["network"](params, BATCH, keys, jnp.int32(0))
        return values.mean(), (values, terms["accuracy"])

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, first), _ = gradient(params, KEYS)
    state, losses = optimizer.init(params), []
    for i in range(30):
        (value, _), grads = gradient(params, jax.random.split(jax.random.key(i), 8))
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(grads, state)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    return first, losses, params


def test_it_begins_at_chance_and_learns(trained):
    (values, right), losses, _ = trained
    np.testing.assert_allclose(values, np.log(2), rtol=1e-5)  # the head begins at zero
    assert set(np.asarray(right).tolist()) <= {0.0, 1.0}
    assert np.mean(losses[-5:]) < 0.6 * np.log(2)


def test_it_steers_towards_the_class(trained):
    process, log_prob = make_system(CONFIG).process, make_log_prob(CONFIG, trained[2])
    z = 0.1 * jax.random.normal(jax.random.key(2), (4, 4, 4, 1))

    def denoise(z_t, step, cond):
        return to_prediction(jnp.zeros_like(z_t), "x0", z_t, step.t, process)

    def x0(label):
        step, cond = Step(t=jnp.int32(200)), Cond(label=jnp.full(4, label))
        return jax.jit(classifier_guided(denoise, process, log_prob, 1.0))(z, step, cond).x0.mean()

    assert x0(1) > x0(0)  # the second class is the bright one


def test_latents():
    stage = {"width": 32, "channel_mult": (1, 1), "num_blocks": 1, "latent_channels": 4, "embed_dim": 3}
    config = tiny.config(model=MODEL, loss={"vlb_weight": 0.0}, latent={"kind": "kl", "network": stage})
    system = make_system(config)
    assert system.image_shape == (2, 2, 3) and set(system.inputs) == {"image", "label"}
    shapes = {**system.shapes, **system.frozen}
    values, _ = jax.eval_shape(system.losses["network"], shapes, BATCH, KEYS, jnp.int32(0))
    assert values.shape == (8,)


@pytest.mark.parametrize(
    "groups, message",
    [
        ({"model": MODEL | {"num_classes": 0}}, "a classifier of 0 classes"),
        ({"model": MODEL | {"patch_size": 2}}, "patch_size is 2; a classifier reads whole images"),
        ({"model": MODEL | {"network": NETWORK | {"depth": 3}}}, "depth is no setting of LatentClassifier"),
        ({"model": MODEL, "train": {"grid_every": 5}}, "makes no pictures"),
    ],
)
def test_mistakes(groups, message):
    with pytest.raises(UserError, match=message):
        make_system(tiny.config(**groups))
