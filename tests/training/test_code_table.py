"""Tables of codes: dense Adam is Adam, lazy Adam is Adam of the rows that are seen, and nothing gathers a table."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pdm_jax.config import OptimizerConfig
from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.systems import make_system
from pdm_jax.systems.base import Table
from pdm_jax.training import train
from pdm_jax.training.codes import thumbnails, with_table_size
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.state import plan_state
from pdm_jax.training.step import batch_shapes, clipped, make_train_step, put
from pdm_jax.training.table import init_table, summed, update_table
from tests import tiny

CONFIG = OptimizerConfig(learning_rate=0.1, warmup_steps=2)


@pytest.fixture(autouse=True, scope="module")
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # optax mixes weak and strong types
        yield


def run(lazy, gradients):
    """The table after steps of {row: gradient}."""
    table, optimizer = Table("codes", lazy), make_optimizer(CONFIG)
    params = {"table": jnp.arange(8.0).reshape(4, 2)}
    state = init_table(table, optimizer, params)
    for step in gradients:
        at, grads = jnp.array([*step, 4], jnp.int32), jnp.array([[g, -g] for g in [*step.values(), 9.0]])
        params, state = update_table(table, optimizer, CONFIG, at, grads, state, params)
    return np.asarray(params["table"])


def adam(gradients, rate=0.1):
    """One number after Adam's steps; `rate` may be one a step."""
    value, mu, nu = 0.0, 0.0, 0.0
    for i, (g, lr) in enumerate(zip(gradients, np.broadcast_to(rate, len(gradients)), strict=True), start=1):
        mu, nu = 0.9 * mu + 0.1 * g, 0.999 * nu + 0.001 * g * g
        value -= lr * (mu / (1 - 0.9**i)) / (np.sqrt(nu / (1 - 0.999**i)) + 1e-7)
    return value


STEPS = [{0: 1.0, 1: 2.0}, {1: -1.0}, {1: 3.0, 2: 0.5}]
RATES = [0.0, 0.05, 0.1]


def test_dense_is_adam_of_the_whole_table():
    moved = run(False, STEPS) - np.arange(8.0).reshape(4, 2)
    for row in range(4):
        wanted = adam([step.get(row, 0.0) for step in STEPS], RATES)
        np.testing.assert_allclose(moved[row], [wanted, -wanted], atol=1e-6)


def test_lazy_is_adam_of_the_rows_that_are_seen():
    moved = run(True, STEPS) - np.arange(8.0).reshape(4, 2)
    for row in range(4):
        seen = [i for i, step in enumerate(STEPS) if row in step]
        wanted = adam([STEPS[i][row] for i in seen], [RATES[i] for i in seen])
        np.testing.assert_allclose(moved[row], [wanted, -wanted], atol=1e-6)


def test_gradients_of_one_row_are_added_up():
    mesh = make_mesh(tiny.patch_config().mesh, jax.devices()[:1])
    index, grads = jnp.array([3, 1, 3], jnp.int32), jnp.array([[1.0], [2.0], [4.0]])
    number, total = jax.jit(lambda i, g: summed(i, g, 5, mesh))(index, grads)
    np.testing.assert_array_equal(number, [1, 3, 5])
    np.testing.assert_array_equal(total[:2, 0], [2, 5])


class Step:
    def __init__(self, mesh, **groups):
        config = with_table_size(tiny.patch_config(mesh=mesh, **groups), tiny.patch_dataset(tiny.patch_config(), 24))
        self.config, self.system = config, make_system(config)
        devices = int(np.prod([*mesh.values()]))
        self.mesh, optimizer = make_mesh(config.mesh, jax.devices()[:devices]), optax.sgd(1e-2, momentum=0.0)
        self.plan = plan_state(self.system, optimizer, config.ema, self.mesh)
        step = make_train_step(self.system, optimizer, config, self.mesh, self.plan)
        shapes = batch_shapes(self.system, config.data.batch_size, self.mesh)
        self.compiled = step.lower(self.plan.shapes, shapes).compile()

    def state(self, num_steps):
        state, batches = self.plan.init(jax.random.key(0)), iter(tiny.patch_dataset(self.config, 24))
        state = dataclasses.replace(state, params=jax.tree.map(lambda x: x + 0.03, state.params))
        for _ in range(num_steps):
            state, metrics = self.compiled(state, put(next(batches), self.system, self.mesh))
        return jax.device_get((state.params, metrics))


@pytest.fixture(scope="module")
def alone():
    return {lazy: Step({"data": 1}, codes={"optimizer": "rows" if lazy else "dense"}) for lazy in (False, True)}


@pytest.mark.parametrize("lazy", [False, True])
def test_a_table_over_devices_is_trained_as_on_one(alone, lazy):
    step = Step({"data": 2, "fsdp": 4}, codes={"optimizer": "rows" if lazy else "dense"})
    assert step.plan.shardings.params["codes"]["table"].spec == jax.sharding.PartitionSpec("fsdp")
    for got, wanted in zip(*(jax.tree.leaves(each.state(3)) for each in (step, alone[lazy])), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-5)
    gathers = [line for line in step.compiled.as_text().splitlines() if re.search(r" all-gather(-start)?\(", line)]
    assert gathers and not [line for line in gathers if "f32[24,16]" in line]


def test_accumulation_changes_nothing(alone):
    step = Step({"data": 1}, optimizer={"accumulation": 2})
    for got, wanted in zip(*(jax.tree.leaves(each.state(2)) for each in (step, alone[False])), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-5)


def test_gradients_of_network_and_table_are_clipped_together():
    grads = {"a": jnp.array([3.0]), "rows": jnp.array([0.0, 4.0])}
    np.testing.assert_allclose(clipped(grads, optax.tree.norm(grads), 1.0)["rows"], [0, 0.8])
    assert clipped(grads, optax.tree.norm(grads), None) is grads
    np.testing.assert_array_equal(clipped(grads, optax.tree.norm(grads), 6.0)["a"], grads["a"])


def test_the_table_gets_as_many_rows_as_there_are_images(tmp_path):
    config = tiny.patch_config(codes={"num": 11})
    with pytest.raises(UserError, match=r"config.codes.num is 11, but arrays has 12 images; set it to 12"):
        train(config, tmp_path, tiny.patch_dataset(config))
    assert with_table_size(tiny.patch_config(), tiny.patch_dataset(config)).codes.num == 12


def test_codes_of_thumbnails_are_alike_for_alike_images():
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    images[1] = np.clip(images[0].astype(int) + 3, 0, 255)
    codes = np.asarray(thumbnails(64, 3, 0)(np.kron(images[:, ::4, ::4], np.ones((1, 4, 4, 1), np.uint8))))
    near, far = np.linalg.norm(codes[0] - codes[1]), np.linalg.norm(codes[0] - codes[2])
    assert near < 0.2 * far and 0.2 < codes.std() < 1
