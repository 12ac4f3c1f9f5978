"""One training step as a pure function, jitted over a mesh with a donated state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from pdm_jax import rng
from pdm_jax.config import Config
from pdm_jax.errors import UserError
from pdm_jax.parallel import (
    batch_sharding,
    batch_shardings,
    check_rows,
    gathered,
    host_share,
    num_batch_shards,
    on_mesh,
    place,
    replicated,
    with_shardings,
)
from pdm_jax.systems import System
from pdm_jax.systems.base import Loss
from pdm_jax.training.averages import update_ema
from pdm_jax.training.state import StatePlan, TrainState
from pdm_jax.training.table import read_rows, summed, update_table
from pdm_jax.types import Array, Params

Batch = Mapping[str, Array]
Metrics = dict[str, Array]


def make_train_step(
    system: System, optimizer: optax.GradientTransformation, config: Config, mesh: Mesh, plan: StatePlan
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted `(state, batch) -> (state, metrics)`; the given state is consumed.

    The batch lies over `data` and `fsdp`, rows of images over `space`. Losses and gradients are means over the global
    batch, and each sample draws from a key of its own, so mesh and accumulation change nothing but rounding.

    Raises:
      UserError: the mesh does not divide the batch or the rows of its images.
    """
    _check_batch(config, mesh)
    if "code" not in system.inputs:
        check_rows(mesh, system.image_shape[0] // config.model.patch_size, "the grid of patches")
    num_micro = config.optimizer.accumulation

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(rng.stream(jax.random.wrap_key_data(state.rng), "loss"), state.step)
        keys = rng.sample_keys(key, jnp.arange(_size(batch)))
        params, opt_state, metrics = dict(state.params), {}, {}
        for group, loss in system.losses.items():
            value_and_grads = _accumulated(system, loss, params | state.frozen, group, state.step, num_micro, mesh)
            grads, row_grads, terms = value_and_grads(batch, keys)
            if system.table is not None:
                name = system.table.group
                at, row_grads = summed(batch["index"], row_grads, len(state.params[name]["table"]), mesh)
            norm = optax.tree.norm((grads, row_grads))
            if system.table is not None:
                grads, row_grads = clipped((grads, row_grads), norm, config.optimizer.clip_norm)
                own = state.opt_state[name], state.params[name]
                params[name], opt_state[name] = update_table(
                    system.table, optimizer, config.optimizer, at, row_grads, *own
                )
            updates, opt_state[group] = optimizer.update(grads, state.opt_state[group], state.params[group])
            params[group] = optax.apply_updates(state.params[group], updates)
            terms |= {"grad_norm": norm, "update_norm": optax.tree.norm(updates)}
            terms["param_norm"] = optax.tree.norm(params[group])
            # the first group's names are plain: its loss is the model's
            metrics |= {f"{group}/{name}": x for name, x in terms.items()} if metrics else terms
        ema = update_ema(state.ema, params, state.step, config.ema) if state.ema else {}
        return dataclasses.replace(state, step=state.step + 1, params=params, opt_state=opt_state, ema=ema), metrics

    return jax.jit(
        on_mesh(train_step, mesh),
        in_shardings=(plan.shardings, batch_shardings(mesh, batch_shapes(system, config.data.batch_size, mesh))),
        out_shardings=(plan.shardings, replicated(mesh)),
        donate_argnums=0,
    )


def batch_shapes(system: System, batch_size: int, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """What a step takes besides the state: shapes and places of a global batch."""
    shapes = {name: jax.ShapeDtypeStruct((batch_size, *x.shape), x.dtype) for name, x in system.inputs.items()}
    return with_shardings(shapes, batch_shardings(mesh, shapes))


def put(batch: Mapping[str, np.ndarray], system: System, mesh: Mesh) -> dict[str, jax.Array]:
    """This host's part of a batch onto its devices, as part of the global batch; only what the system uses."""
    wanted, share = batch_shapes(system, _size(batch), mesh), host_share(mesh)
    return {name: place(batch[name].astype(x.dtype, copy=False), x.sharding, share) for name, x in wanted.items()}


def with_codes(system: System, params: Params, batch: Batch, mesh: Mesh) -> Batch:
    """The batch as losses read it: with its rows of the table of codes, if the system has one."""
    if system.table is None:
        return batch
    return {**batch, "code": read_rows(params[system.table.group]["table"], batch["index"], mesh)}


def _accumulated(
    system: System, loss: Loss, params: Params, group: str, step: Array, num_micro: int, mesh: Mesh
) -> Callable[[Batch, Array], tuple[Params, Array | None, Metrics]]:
    """A function of batch and keys to the gradients for one group, those of the batch's rows, and the mean terms."""
    others = system.networks(params)

    def mean_loss(own: Params, code: Array | None, batch: Batch, keys: Array) -> tuple[Array, Metrics]:
        batch = batch if code is None else {**batch, "code": code}
        values, terms = loss(gathered(others | {group: own}, mesh), batch, keys, step)
        means = {"loss": values, **terms}
        return values.mean(), {name: x.mean() for name, x in means.items()}

    def gradient(batch: Batch, keys: Array) -> tuple[Params, Array | None, Metrics]:
        own = {name: x for name, x in batch.items() if name != "code"} if system.table else batch
        code = batch["code"] if system.table else None
        (grads, code_grads), terms = jax.grad(mean_loss, argnums=(0, 1), has_aux=True)(params[group], code, own, keys)
        return grads, code_grads, terms

    def micro(x: Array) -> Array:
        # Sample i goes to micro-batch i % num_micro: each device splits its own samples, none move.
        return x.reshape(-1, num_micro, *x.shape[1:]).swapaxes(0, 1)

    def accumulate(batch: Batch, keys: Array) -> tuple[Params, Array | None, Metrics]:
        batch = with_codes(system, params, batch, mesh)
        if num_micro == 1:
            return gradient(batch, keys)

        def body(total, part):
            grads, code_grads, terms = gradient(*part)
            return jax.tree.map(jnp.add, total, (grads, terms)), code_grads

        parts, keys = jax.tree.map(micro, batch), micro(keys)
        parts = jax.lax.with_sharding_constraint(parts, batch_shardings(mesh, parts, leading=1))
        keys = jax.lax.with_sharding_constraint(keys, batch_sharding(mesh, leading=1))
        grads, _, terms = jax.eval_shape(gradient, *jax.tree.map(lambda x: x[0], (parts, keys)))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (grads, terms))
        total, code_grads = jax.lax.scan(body, zeros, (parts, keys))
        code_grads = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, x.shape[-1]), code_grads)
        (grads, terms), code_grads = jax.tree.map(lambda x: x / num_micro, (total, code_grads))
        return grads, code_grads, terms

    return accumulate


def clipped(grads: Params, norm: Array, limit: float | None) -> Params:
    """Gradients of everything that is trained together, with at most this norm."""
    if limit is None:
        return grads
    factor = limit / jnp.maximum(norm, limit)
    return jax.tree.map(lambda x: x * factor, grads)


def _size(batch: Mapping[str, Any]) -> int:
    return len(next(iter(batch.values())))


def _check_batch(config: Config, mesh: Mesh) -> None:
    size, parts = config.data.batch_size, num_batch_shards(mesh) * config.optimizer.accumulation
    if size % parts:
        fits = [n for n in (size // parts * parts, -(-size // parts) * parts) if n]
        raise UserError(
            f"config.data.batch_size is {size}; it must be a multiple of {parts} (config.mesh.data times fsdp "
            f"times optimizer.accumulation), such as {' or '.join(map(str, fits))}"
        )
