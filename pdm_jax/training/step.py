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
from pdm_jax.training.state import StatePlan, TrainState
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
    check_rows(mesh, system.image_shape[0] // config.model.patch_size, "the grid of patches")
    num_micro = config.optimizer.accumulation

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(rng.stream(jax.random.wrap_key_data(state.rng), "loss"), state.step)
        keys = rng.sample_keys(key, jnp.arange(batch["image"].shape[0]))
        params, opt_state, metrics = {}, {}, {}
        for group, loss in system.losses.items():
            value_and_grads = _accumulated(loss, state.params, group, num_micro, mesh)
            grads, terms = value_and_grads(batch, keys)
            updates, opt_state[group] = optimizer.update(grads, state.opt_state[group], state.params[group])
            params[group] = optax.apply_updates(state.params[group], updates)
            terms |= {"grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
            terms["param_norm"] = optax.tree.norm(params[group])
            metrics |= terms if len(system.losses) == 1 else {f"{group}/{name}": x for name, x in terms.items()}
        ema = update_ema(state.ema, params, state.step, config.ema.decay, config.ema.every) if state.ema else {}
        return dataclasses.replace(state, step=state.step + 1, params=params, opt_state=opt_state, ema=ema), metrics

    return jax.jit(
        on_mesh(train_step, mesh),
        in_shardings=(plan.shardings, batch_shardings(mesh, batch_shapes(system, config.data.batch_size, mesh))),
        out_shardings=(plan.shardings, replicated(mesh)),
        donate_argnums=0,
    )


def batch_shapes(system: System, batch_size: int, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """What a step takes besides the state: shapes and places of a global batch."""
    shapes = {"image": jax.ShapeDtypeStruct((batch_size, *system.image_shape), jnp.uint8)}
    if system.num_classes:
        shapes["label"] = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    return with_shardings(shapes, batch_shardings(mesh, shapes))


def put(batch: Mapping[str, np.ndarray], system: System, mesh: Mesh) -> dict[str, jax.Array]:
    """This host's part of a batch onto its devices, as part of the global batch; only what the system uses."""
    wanted, share = batch_shapes(system, len(batch["image"]), mesh), host_share(mesh)
    return {name: place(batch[name], shape.sharding, share) for name, shape in wanted.items()}


def update_ema(ema: Params, params: Params, step: Array, decay: float, every: int) -> Params:
    """ema = decay * ema + (1 - decay) * params when the 0-based `step` is a multiple of `every`."""
    weight = jnp.where(step % every == 0, 1 - decay, 0.0).astype(jnp.float32)
    return jax.tree.map(lambda average, p: average + weight * (p - average), ema, params)


def _accumulated(loss: Loss, params: Params, group: str, num_micro: int, mesh: Mesh) -> Callable[[Batch, Array], Any]:
    """A function of batch and keys to the gradients for one group and the mean terms."""

    def mean_loss(own: Params, batch: Batch, keys: Array) -> tuple[Array, Metrics]:
        values, terms = loss(gathered(params | {group: own}, mesh), batch, keys)
        means = {"loss": values, **terms}
        return values.mean(), {name: x.mean() for name, x in means.items()}

    gradient = jax.grad(mean_loss, has_aux=True)
    if num_micro == 1:
        return lambda batch, keys: gradient(params[group], batch, keys)

    def micro(x: Array) -> Array:
        # Sample i goes to micro-batch i % num_micro: each device splits its own samples, none move.
        return x.reshape(-1, num_micro, *x.shape[1:]).swapaxes(0, 1)

    def accumulate(batch: Batch, keys: Array) -> tuple[Params, Metrics]:
        def body(total, part):
            return jax.tree.map(jnp.add, total, gradient(params[group], *part)), None

        parts, keys = jax.tree.map(micro, batch), micro(keys)
        parts = jax.lax.with_sharding_constraint(parts, batch_shardings(mesh, parts, leading=1))
        keys = jax.lax.with_sharding_constraint(keys, batch_sharding(mesh, leading=1))
        shapes = jax.eval_shape(gradient, params[group], *jax.tree.map(lambda x: x[0], (parts, keys)))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        total, _ = jax.lax.scan(body, zeros, (parts, keys))
        return jax.tree.map(lambda x: x / num_micro, total)

    return accumulate


def _check_batch(config: Config, mesh: Mesh) -> None:
    size, parts = config.data.batch_size, num_batch_shards(mesh) * config.optimizer.accumulation
    if size % parts:
        fits = [n for n in (size // parts * parts, -(-size // parts) * parts) if n]
        raise UserError(
            f"config.data.batch_size is {size}; it must be a multiple of {parts} (config.mesh.data times fsdp "
            f"times optimizer.accumulation), such as {' or '.join(map(str, fits))}"
        )
