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
from pdm_jax.parallel import batch_sharding, replicated
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

    The batch lies over `data` and `fsdp`. Losses and gradients are means over the global batch, and each
    sample draws from a key of its own, so mesh and accumulation change nothing but rounding.
    """
    _check_batch(config, mesh)
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
        train_step,
        in_shardings=(plan.shardings, batch_sharding(mesh)),
        out_shardings=(plan.shardings, replicated(mesh)),
        donate_argnums=0,
    )


def put(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's part of a batch onto its devices, as part of the global batch."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, batch[name])
        for name in ("image", "label")
        if name in batch
    }


def update_ema(ema: Params, params: Params, step: Array, decay: float, every: int) -> Params:
    """ema = decay * ema + (1 - decay) * params when the 0-based `step` is a multiple of `every`."""
    weight = jnp.where(step % every == 0, 1 - decay, 0.0).astype(jnp.float32)
    return jax.tree.map(lambda average, p: average + weight * (p - average), ema, params)


def _accumulated(loss: Loss, params: Params, group: str, num_micro: int, mesh: Mesh) -> Callable[[Batch, Array], Any]:
    """A function of batch and keys to the gradients for one group and the mean terms."""

    def mean_loss(own: Params, batch: Batch, keys: Array) -> tuple[Array, Metrics]:
        values, terms = loss(params | {group: own}, batch, keys)
        means = {"loss": values, **terms}
        return values.mean(), {name: x.mean() for name, x in means.items()}

    gradient = jax.grad(mean_loss, has_aux=True)
    if num_micro == 1:
        return lambda batch, keys: gradient(params[group], batch, keys)

    def micro(x: Array) -> Array:
        # Sample i goes to micro-batch i % num_micro: each device splits its own samples, none move.
        x = x.reshape(-1, num_micro, *x.shape[1:]).swapaxes(0, 1)
        return jax.lax.with_sharding_constraint(x, batch_sharding(mesh, leading=1))

    def accumulate(batch: Batch, keys: Array) -> tuple[Params, Metrics]:
        def body(total, part):
            return jax.tree.map(jnp.add, total, gradient(params[group], *part)), None

        shapes = jax.eval_shape(gradient, params[group], *jax.tree.map(lambda x: micro(x)[0], (batch, keys)))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        total, _ = jax.lax.scan(body, zeros, jax.tree.map(micro, (batch, keys)))
        return jax.tree.map(lambda x: x / num_micro, total)

    return accumulate


def _check_batch(config: Config, mesh: Mesh) -> None:
    parts = mesh.shape["data"] * mesh.shape["fsdp"] * config.optimizer.accumulation
    if config.data.batch_size % parts:
        raise UserError(
            f"config.data.batch_size is {config.data.batch_size}; it must be a multiple of {parts} "
            f"(devices times optimizer.accumulation)"
        )
