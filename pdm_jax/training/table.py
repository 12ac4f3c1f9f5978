"""Optimising a table with a row for each record: from the gradients of a batch's rows alone (`systems.base.Table`)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from pdm_jax.config import OptimizerConfig
from pdm_jax.parallel import batch_sharding, replicated
from pdm_jax.systems.base import Table
from pdm_jax.training.rates import learning_rate
from pdm_jax.types import Array, Params


def read_rows(table: Array, index: Array, mesh: Mesh) -> Array:
    """Rows (B, D) of a table (N, D), each on the device of its sample; only they move, never the table."""
    return jax.lax.with_sharding_constraint(table[index], batch_sharding(mesh))


def summed(index: Array, grads: Array, num_rows: int, mesh: Mesh) -> tuple[Array, Array]:
    """Numbers [B] of different rows and their gradients (B, D), from gradients of the rows `index` [B].

    Those of one row are added up; where that leaves fewer rows, the others have the number N, one past the end.
    """
    index, grads = jax.lax.with_sharding_constraint((index, grads), replicated(mesh))
    number, place = jnp.unique(index, size=len(index), fill_value=num_rows, return_inverse=True)
    return number, jax.ops.segment_sum(grads, place, len(index))


def init_table(table: Table, optimizer: optax.GradientTransformation, params: Params) -> Any:
    """The optimiser's state of a table (N, D): Adam's, or with `lazy` moments, and updates [N] of each row."""
    if not table.lazy:
        return optimizer.init(params)
    zeros = jnp.zeros_like(params["table"])
    count = jnp.zeros(len(zeros), jnp.int32)
    return {"mu": zeros, "nu": zeros, "updates": count, "step": jnp.int32(0)}


def update_table(
    table: Table,
    optimizer: optax.GradientTransformation,
    config: OptimizerConfig,
    at: Array,
    grads: Array,
    state: Any,
    params: Params,
) -> tuple[Params, Any]:
    """The parameters `{"table"}` and the state after a step.

    Dense: Adam of the whole table, whose rows without a gradient still move along their momentum (as the program).
    Lazy: rows of the batch alone are read and written, as if the steps that do not touch a row did not exist for it;
    neither gradients nor updates of the size of the table are made.

    Args:
      at, grads: from `summed`.
    """
    values = params["table"]
    if not table.lazy:
        dense = {"table": jnp.zeros_like(values).at[at].set(grads, mode="drop")}
        updates, state = optimizer.update(dense, state, params)
        return optax.apply_updates(params, updates), state
    count = state["updates"].at[at].get(mode="fill", fill_value=0) + 1
    mu = config.b1 * state["mu"].at[at].get(mode="fill", fill_value=0) + (1 - config.b1) * grads
    nu = config.b2 * state["nu"].at[at].get(mode="fill", fill_value=0) + (1 - config.b2) * jnp.square(grads)
    correction = count.astype(jnp.float32)[:, None]
    mu_hat, nu_hat = mu / (1 - config.b1**correction), nu / (1 - config.b2**correction)
    decay = config.weight_decay * values.at[at].get(mode="fill", fill_value=0)
    step = -learning_rate(config)(state["step"]) * (mu_hat / (jnp.sqrt(nu_hat) + config.eps) + decay)
    state = {
        "mu": state["mu"].at[at].set(mu, mode="drop"),
        "nu": state["nu"].at[at].set(nu, mode="drop"),
        "updates": state["updates"].at[at].set(count, mode="drop"),
        "step": state["step"] + 1,
    }
    return {"table": values.at[at].add(step, mode="drop")}, state
