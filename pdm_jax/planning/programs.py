"""The programs that are planned, as a run would make them: a jitted function and the shapes and places it takes."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from pdm_jax.config import Config
from pdm_jax.diffusion import timesteps
from pdm_jax.parallel import num_batch_shards, param_shardings, replicated, with_shardings
from pdm_jax.pipelines.generate import make_generate
from pdm_jax.systems import make_system
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.state import plan_state
from pdm_jax.training.step import batch_shapes, make_train_step
from pdm_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Program:
    """What is compiled."""

    function: Callable[..., Any]  # jitted
    arguments: tuple[Any, ...]  # ShapeDtypeStructs with shardings
    params: Params  # ShapeDtypeStructs of all weights
    batch_size: int  # images over all devices
    num_steps: int = 1  # of sampling in one call

    @property
    def num_parameters(self) -> int:
        """Weights of the model, counted once."""
        return sum(math.prod(x.shape) for x in jax.tree.leaves(self.params))

    @property
    def state_bytes(self) -> int:
        """Bytes a device of what does not grow with the batch: weights, optimiser state, averages."""
        return _device_bytes(self.arguments[0])

    @property
    def argument_bytes(self) -> int:
        """Bytes a device of all arguments."""
        return _device_bytes(self.arguments)


def train_program(config: Config, mesh: Mesh) -> Program:
    """The training step of a model that is not split, or of one part of a split one.

    Raises:
      UserError: the config does not fit itself or the mesh.
    """
    system, optimizer = make_system(config), make_optimizer(config.optimizer)
    plan = plan_state(system, optimizer, config.ema, mesh)
    step = make_train_step(system, optimizer, config, mesh, plan)
    batch_size = config.data.batch_size
    return Program(step, (plan.shapes, batch_shapes(system, batch_size, mesh)), system.shapes, batch_size)


def sample_program(config: Config, mesh: Mesh) -> Program:
    """The sampling loop of a whole model; `config.data.batch_size` images at once, or as many more as the mesh needs.

    Raises:
      UserError: as `make_generate`.
    """
    system, shares = make_system(config), num_batch_shards(mesh)
    batch_size = -(-config.data.batch_size // shares) * shares
    here = functools.partial(jax.ShapeDtypeStruct, sharding=replicated(mesh))
    params = with_shardings(system.all_shapes, param_shardings(mesh, system.all_shapes))
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    told = {name: here((batch_size, *x.shape), x.dtype) for name, x in system.told.items()}
    arguments = (params, here(key.shape, key.dtype), here((batch_size,), jnp.int32), told, None)
    num_steps = len(timesteps(config.sample.steps, system.process.num_steps))
    return Program(make_generate(system, config.sample, mesh), arguments, system.shapes, batch_size, num_steps)


def without_remat(config: Config) -> Config:
    """The config with nothing recomputed because it asks for it: what a model's own FLOPs are counted of."""
    if not config.model.network.get("use_remat"):
        return config
    network = {**config.model.network, "use_remat": False}
    return dataclasses.replace(config, model=dataclasses.replace(config.model, network=network))


def _device_bytes(tree: Any) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)


PROGRAMS = {"train": train_program, "sample": sample_program}
