"""Everything that moves during training, as one pytree."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from pdm_jax import rng
from pdm_jax.config import EmaConfig
from pdm_jax.errors import UserError
from pdm_jax.parallel import param_shardings, with_shardings
from pdm_jax.systems import System
from pdm_jax.training.table import init_table
from pdm_jax.types import Array, Params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """`params`, `opt_state` and `ema` are `{group: tree}`."""

    step: Array  # int32 scalar: updates done
    params: Params
    opt_state: Any
    ema: Params  # averaged parameters; {} while a copy on the host is kept instead
    frozen: Params  # groups that training reads only (`System.frozen`), without opt_state and ema
    rng: Array  # raw data of the run's root key; constant, steps fold their number into it

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for checkpoints."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True)
class StatePlan:
    """How a state is made and where its arrays lie, before any of them exists."""

    init: Any  # key -> TrainState, jitted with output shardings; frozen groups are zeros until they are loaded
    shapes: TrainState  # ShapeDtypeStructs with shardings
    shardings: TrainState


def plan_state(system: System, optimizer: optax.GradientTransformation, ema: EmaConfig, mesh: Mesh) -> StatePlan:
    """Shapes, then sharding rules, then a jitted init, so that nothing is ever built unsharded."""
    if ema.place not in ("device", "host"):
        raise UserError(f"config.ema.place is {ema.place!r}; expected 'device' or 'host'")

    def init(key: Array) -> TrainState:
        params = system.init(rng.stream(key, "init"))
        average = jax.tree.map(jnp.copy, params) if ema.place == "device" else {}
        opt_state = {group: optimizer.init(tree) for group, tree in system.networks(params).items()}
        if system.table is not None:
            name = system.table.group
            opt_state[name] = init_table(system.table, optimizer, params[name])
        frozen = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), system.frozen)
        return TrainState(jnp.int32(0), params, opt_state, average, frozen, jax.random.key_data(key))

    shapes = jax.eval_shape(init, jax.random.key(0))
    shardings = param_shardings(mesh, shapes)
    return StatePlan(jax.jit(init, out_shardings=shardings), with_shardings(shapes, shardings), shardings)
