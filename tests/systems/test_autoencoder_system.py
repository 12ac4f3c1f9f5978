"""The system of first stages: its groups, their losses, and settings that do not fit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.ops.images import to_uint8
from pdm_jax.parallel import make_mesh
from pdm_jax.systems import make_system
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.state import plan_state
from pdm_jax.training.step import make_train_step, put
from tests.systems.autoencoder_config import first_stage_config

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)


def step_of(config, mesh=None):
    """A jitted training step and a function that makes its first state and its batch."""
    system, mesh = make_system(config), mesh or make_mesh(config.mesh, jax.devices()[:1])
    optimizer = make_optimizer(config.optimizer)
    plan = plan_state(system, optimizer, config.ema, mesh)
    return (
        make_train_step(system, optimizer, config, mesh, plan),
        lambda: (plan.init(jax.random.key(0)), put({"image": IMAGES}, system, mesh)),
    )


@pytest.fixture(scope="module")
def trained():
    """A vq model: its first state, those after one and two steps, and what these logged."""
    with jax.numpy_dtype_promotion("standard"):
        step, begin = step_of(first_stage_config())
        state, batch = begin()
        states, logged = [jax.device_get(state.params)], []
        for _ in range(2):
            state, terms = step(state, batch)
            states.append(jax.device_get(state.params))
            logged.append(jax.device_get(terms))
    return states, logged


def test_the_critic_waits_for_its_start_and_both_groups_learn(trained):
    states, _ = trained
    first, second = ({group: _distance(a[group], b[group]) for group in a} for a, b in itertools.pairwise(states))
    assert first["first_stage"] > 0 and first["critic"] == 0  # critic_start is 1
    assert second["first_stage"] > 0 and second["critic"] > 0


def test_what_is_logged(trained):
    _, (first, second) = trained
    names = {"loss", "nll", "reconstruction", "codebook", "generator", "adaptive_weight", "codes_used", "perplexity"}
    assert names <= set(first)
    assert {f"critic/{name}" for name in ("loss", "logits_real", "logits_fake")} <= set(first)
    assert first["critic/loss"] == 0 and second["critic/loss"] > 0
    assert 1 <= first["perplexity"] <= first["codes_used"] <= 16


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_losses_are_of_each_sample_whatever_its_batch(kind):
    config = first_stage_config(kind, reconstruction={"critic_weight": 0.0})
    system = make_system(config)
    params = jax.jit(system.init)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 4)
    assert list(system.losses) == ["first_stage"]

    @jax.jit
    def loss(params, images, keys):
        return system.losses["first_stage"](params, {"image": images}, keys, jnp.int32(0))

    values, terms = loss(params, IMAGES, keys)
    alone, _ = loss(params, IMAGES[2:3], keys[2:3])
    np.testing.assert_allclose(alone, values[2:3], rtol=1e-4)
    pixels = 16 * 16 * 3 if kind == "kl" else 1
    np.testing.assert_allclose(terms["nll"], pixels * terms["reconstruction"], rtol=1e-4)


def test_likeness_is_measured_where_there_are_weights():
    system = make_system(
        first_stage_config("kl", reconstruction={"perceptual": "vgg.pth,heads.pth"}, data={"channels": 1})
    )
    batch = {"image": jax.ShapeDtypeStruct((4, 16, 16, 1), jnp.uint8)}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 4))
    step = jax.ShapeDtypeStruct((), jnp.int32)
    loss, terms = jax.eval_shape(system.losses["first_stage"], system.all_shapes, batch, keys, step)
    assert list(system.frozen) == ["perceptual"] and "perceptual" not in system.shapes
    assert loss.shape == terms["perceptual"].shape == (4,)


def test_posteriors_are_drawn_anew_for_each_step():
    system = make_system(first_stage_config("kl", reconstruction={"critic_weight": 0.0}))
    params = jax.jit(system.init)(jax.random.key(0))
    loss = jax.jit(lambda keys: system.losses["first_stage"](params, {"image": IMAGES}, keys, jnp.int32(0))[0])
    one, other = (loss(jax.random.split(jax.random.key(seed), 4)) for seed in (1, 2))
    assert np.abs(one - other).min() > 0


def test_what_is_reconstructed_is_the_mean():
    system = make_system(first_stage_config("kl"))
    params = jax.jit(system.init)(jax.random.key(0))
    found = jax.jit(system.reconstruct)(params, IMAGES)
    assert found.shape == IMAGES.shape and found.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(system.reconstruct)(params, IMAGES), found)
    assert to_uint8(found).dtype == jnp.uint8 and system.denoiser is None


@pytest.mark.slow
def test_a_step_is_the_same_on_eight_devices(trained):
    states, _ = trained
    config = first_stage_config(data={"batch_size": 4}, mesh={"data": 4, "fsdp": 2})
    with jax.numpy_dtype_promotion("standard"), pytest.raises(UserError, match="batch_size"):
        step_of(config, make_mesh(config.mesh))
    config = first_stage_config(mesh={"data": 2, "fsdp": 2, "space": 2})
    with jax.numpy_dtype_promotion("standard"):
        step, begin = step_of(config, make_mesh(config.mesh))
        state, _ = step(*begin())
    assert _distance(jax.device_get(state.params["first_stage"]), states[1]["first_stage"]) < 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"network": {"width": 4}}}, "settings go to config.latent.network"),
        ({"latent": {"kind": "none"}}, "config.latent.kind is 'none'"),
        ({"data": {"image_size": 15}}, "15x15"),
        ({"data": {"image_size": 8}}, "needs images of 12 pixels a side"),
        ({"reconstruction": {"critic_loss": "wgan"}}, "critic_loss is 'wgan'; expected 'hinge' or 'vanilla'"),
        ({"reconstruction": {"perceptual": "a,b"}, "data": {"image_size": 14}}, "LPIPS needs images of 16 pixels"),
        ({"latent": {"dtype": "float16"}}, "float16"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make_system(first_stage_config(**changes))


def _distance(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
