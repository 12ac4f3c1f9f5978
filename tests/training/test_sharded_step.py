"""The step on 8 devices: gradients and updates of one device, for any mesh, and no activations sent around whole."""

import functools
import math
import re

import jax
import numpy as np
import optax
import pytest

from pdm_jax.parallel import make_mesh
from pdm_jax.systems import make_system
from pdm_jax.training.state import plan_state
from pdm_jax.training.step import batch_shapes, make_train_step, put
from tests import tiny

BATCH, SIZE, WIDTH = 8, 32, 64  # two channels a group: with one, biases before a norm have no gradient
MESHES = {
    "data": {"data": 8},
    "fsdp": {"data": 1, "fsdp": 8},
    "space": {"data": 1, "space": 4},  # two rows each at the coarser level
    "data-fsdp": {"data": 2, "fsdp": 4},
    "data-space": {"data": 4, "space": 2},
    "data-fsdp-space": {"data": 2, "fsdp": 2, "space": 2},
}
NETWORK = {"width": WIDTH, "channel_mult": (1, 1), "num_blocks": 1, "attn_levels": (1,), "head_dim": 32}


class Step:
    """A step of stochastic gradient descent; its momentum of 0 keeps the gradient in the state."""

    def __init__(self, mesh):
        config = tiny.config(data={"image_size": SIZE, "batch_size": BATCH}, model={"network": NETWORK}, mesh=mesh)
        self.config, self.system = config, make_system(config)
        self.mesh = make_mesh(config.mesh, jax.devices()[: abs(math.prod(mesh.values()))])
        optimizer = optax.sgd(1e-5, momentum=0.0)
        self.plan = plan_state(self.system, optimizer, config.ema, self.mesh)
        step = make_train_step(self.system, optimizer, config, self.mesh, self.plan)
        self.compiled = step.lower(self.plan.shapes, batch_shapes(self.system, BATCH, self.mesh)).compile()

    def run(self, num_steps):
        """States after each step from parameters of which none is zero, as some initial ones are."""
        state, batches = self.plan.init(jax.random.key(0)), iter(tiny.dataset(self.config))
        leaves = [
            jax.device_put(np.random.default_rng(i).normal(np.mean(x), 0.05, x.shape).astype(x.dtype), x.sharding)
            for i, x in enumerate(jax.tree.leaves(state.params))
        ]
        object.__setattr__(state, "params", jax.tree.unflatten(jax.tree.structure(state.params), leaves))
        for _ in range(num_steps):
            state, metrics = self.compiled(state, put(next(batches), self.system, self.mesh))
            yield jax.device_get((state.params, optax.tree.get(state.opt_state, "trace"), metrics))


@pytest.fixture(scope="module")
def reference():
    return list(Step({"data": 1}).run(5))


@functools.cache
def on(name):
    return Step(MESHES[name])


def distance(got, wanted):
    """The largest relative distance of two trees' arrays."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True)
    return max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs)


SLOW = {name: [pytest.mark.slow] for name in ("data", "data-fsdp", "data-space")}  # all axes at once are not


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, [])) for name in MESHES])
def test_gradients_and_parameters_are_those_of_one_device(name, reference):
    states = list(on(name).run(5))
    (_, gradient, metrics), (_, wanted, wanted_metrics) = states[0], reference[0]
    assert distance(gradient, wanted) < 1e-5
    assert distance(metrics, wanted_metrics) < 1e-5
    assert distance(states[-1][0], reference[-1][0]) < 1e-5


def collectives(name):
    """{kind: elements of each collective's largest result} of a compiled step."""
    found, pattern = {}, r"= (.*?) (all-\w+|reduce-scatter|collective-permute)\("
    for shapes, kind in re.findall(pattern, on(name).compiled.as_text()):
        sizes = [math.prod(map(int, filter(None, dims.split(",")))) for dims in re.findall(r"\w+\[([\d,]*)\]", shapes)]
        found.setdefault(kind, []).append(max(sizes))
    return found


GRID = SIZE // 2
ATTENTIONS, TOKENS = 4, (GRID // 2) ** 2 * WIDTH * BATCH  # the middle's and level 1's; keys of all places


def test_over_data_only_gradients_are_summed():
    assert collectives("data").keys() == {"all-reduce"}


def test_over_fsdp_weights_are_sent_and_activations_stay():
    sizes = {x.size for x in jax.tree.leaves(on("fsdp").system.shapes)}
    found = collectives("fsdp")
    assert found.keys() == {"all-gather", "all-reduce"}  # on TPUs the latter is a reduce-scatter
    assert set(found["all-gather"]) <= sizes | {BATCH} and GRID**2 * WIDTH * BATCH not in sizes
    assert len(found["all-gather"]) <= len(jax.tree.leaves(on("fsdp").system.shapes))


def test_over_space_neighbours_send_rows_and_attention_its_keys_and_values():
    found = collectives("space")
    assert found.keys() == {"all-gather", "all-reduce", "collective-permute"}
    assert found["all-gather"] == [TOKENS] * 2 * ATTENTIONS
    one_row = GRID * 2 * WIDTH * BATCH  # of the widest input at the finest level, and some
    assert max(found["collective-permute"]) <= one_row
