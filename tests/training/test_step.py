"""One training step: what it computes does not depend on mesh or accumulation, and it compiles once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import EmaConfig, OptimizerConfig
from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.systems import make_system
from pdm_jax.training.averages import update_ema
from pdm_jax.training.host_ema import HostEma
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.state import plan_state
from pdm_jax.training.step import make_train_step, put
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore:Some donated buffers")


@pytest.fixture(autouse=True)
def optax_promotes():
    """optax mixes weak and strong types in its schedules."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def run(config, devices, steps=2):
    """Parameters and metrics after some steps on the tiny data, and how often the step was traced."""
    traces = []
    system = make_system(config)
    loss = system.losses["network"]

    def counted(*args):
        traces.append(1)
        return loss(*args)

    system = dataclasses.replace(system, losses={"network": counted})
    mesh = make_mesh(config.mesh, jax.devices()[:devices])
    optimizer = make_optimizer(config.optimizer)
    plan = plan_state(system, optimizer, config.ema, mesh)
    step = make_train_step(system, optimizer, config, mesh, plan)
    state, batches = plan.init(jax.random.key(0)), iter(tiny.dataset(config))
    for _ in range(steps):
        with jax.transfer_guard("disallow"):
            state, metrics = step(state, put(next(batches), system, mesh))
    return jax.device_get(state), jax.device_get(metrics), len(traces)


SGD_LIKE = {"learning_rate": 1e-3, "warmup_steps": 0, "eps": 1.0}  # a large eps: Adam would blow up rounding


@pytest.fixture(scope="module")
def reference():
    with jax.numpy_dtype_promotion("standard"):
        return run(tiny.config(optimizer=SGD_LIKE), devices=1)


@pytest.mark.parametrize(
    "mesh, devices, accumulation",
    [
        ({"data": 2}, 2, 2),
        ({"data": 2, "space": 2}, 4, 2),
        ({"data": 1}, 1, 4),
    ],
    ids=["data2-accumulate2", "data2-space2-accumulate2", "accumulate4"],
)
def test_accumulation_changes_nothing(reference, mesh, devices, accumulation):
    config = tiny.config(optimizer={**SGD_LIKE, "accumulation": accumulation}, mesh=mesh)
    state, metrics, _ = run(config, devices)
    for name, value in reference[1].items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-5, err_msg=name)
    for got, wanted in zip(jax.tree.leaves(state.params), jax.tree.leaves(reference[0].params), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6, rtol=1e-5)


def test_the_step_is_traced_once():
    _, _, traces = run(tiny.config(), devices=1, steps=4)
    assert traces == 1


def test_fsdp_cuts_parameters_and_optimiser_state():
    config = tiny.config(mesh={"data": 1, "fsdp": 8})
    system, mesh = make_system(config), make_mesh(config.mesh)
    plan = plan_state(system, make_optimizer(config.optimizer), config.ema, mesh)
    state = plan.init(jax.random.key(0))
    kernel = state.params["network"]["conv_out"]["kernel"]  # (3, 3, 32, 4): 32 divides by 8
    assert kernel.addressable_shards[0].data.shape == (3, 3, 4, 4)
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.shape == kernel.shape]
    assert moments and all(m.sharding == kernel.sharding for m in moments)


def test_host_ema_follows_the_rule_of_the_papers_program():
    config = EmaConfig(decay=0.9, every=2, place="host")
    ema = HostEma(config, {"w": jnp.zeros(3)})
    for step in range(4):  # updated after steps 0 and 2
        ema.update(step, {"w": jnp.full(3, step + 1.0)})
    expected = 0.9 * (0.9 * 0 + 0.1 * 1) + 0.1 * 3
    np.testing.assert_allclose(ema.values["w"], np.full(3, expected, np.float32), rtol=1e-6)


def test_device_ema_equals_host_ema():
    config = EmaConfig(decay=0.9, every=2)
    device = {"w": jnp.zeros(3)}
    host = HostEma(config, device)
    for step in range(5):
        params = {"w": jnp.full(3, float(step * step + 1))}
        device = update_ema(device, params, jnp.int32(step), config)
        host.update(step, params)
    np.testing.assert_allclose(device["w"], host.values["w"], rtol=1e-6)


def test_warm_up_starts_at_zero_and_ends_at_the_rate():
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.5, warmup_steps=2))
    params = {"w": jnp.ones(1)}
    state, sizes = optimizer.init(params), []
    for _ in range(5):
        updates, state = optimizer.update({"w": jnp.ones(1)}, state, params)
        sizes.append(float(-updates["w"][0]))
    np.testing.assert_allclose(sizes, [0, 0.25, 0.5, 0.5, 0.5], rtol=1e-4)


@pytest.mark.parametrize(
    "groups, message",
    [
        ({"data": {"batch_size": 12}}, "batch_size is 12; it must be a multiple of 8 .* such as 8 or 16"),
        ({"data": {"batch_size": 6}}, "batch_size is 6; it must be a multiple of 8 .* such as 8$"),
        ({"mesh": {"data": 3}}, "does not make up the 8 devices"),
        (
            {"mesh": {"space": 8}},
            "space is 8 .* does not divide the 2 rows .* the nearest that does is 2",
        ),
        ({"mesh": {"data": -1, "fsdp": -1}}, "at most one of them -1"),
        ({"ema": {"place": "moon"}}, "ema.place is 'moon'"),
    ],
)
def test_settings_that_do_not_fit_are_named(groups, message):
    with pytest.raises(UserError, match=message):
        run(tiny.config(**groups), devices=8)
