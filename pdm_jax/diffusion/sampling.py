"""The one sampling loop: a `lax.scan` over a sampler's table, the same for every denoiser and every sampler."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax import rng
from pdm_jax.diffusion.process import Process
from pdm_jax.diffusion.samplers import Ask, Sampler
from pdm_jax.errors import UserError
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step

StateMap = Callable[[Array, Step], Array]  # (z (B, H, W, C), step) -> z


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Samples:
    """What `sample` returns."""

    final: Array  # (B, H, W, C) the state after the last step
    intermediates: Array | None  # (K, B, H, W, C) states on the way, the last is `final`
    num_steps: int = dataclasses.field(metadata={"static": True})  # how many steps ran


def sample(
    denoiser: Denoiser,
    process: Process,
    sampler: Sampler,
    timesteps: np.ndarray,
    z: Array,
    keys: Array | None,
    cond: Cond,
    *,
    last_alpha: str = "one",
    noises: Array | None = None,
    every: int | None = None,
    step_key: Array | None = None,
    before_step: StateMap | None = None,
    after_step: StateMap | None = None,
) -> Samples:
    """Runs a sampler over `timesteps` as one scan, inside one jit; raises `UserError` for arguments that do not fit.

    Args:
      timesteps: [N] ascending, from `strides.timesteps`.
      z: (B, H, W, C) the initial state: noise, or for `ddim_inverse` an image.
      keys: [B], one a sample; the noise of sample i in its k-th step depends on keys[i] and k only. Not needed
        where the sampler draws none or `noises` are given, unless it jumps back (`resampling.resampled`).
      last_alpha: alpha_bar that the last step goes to: "one" or "first" (that of t = 0, as LDM's DDIM).
      noises: (N, B, H, W, C) to use instead of drawing them.
      every: keep the state after each `every` steps, and the final one; only these K = ceil(N / every) are stored.
      step_key: one key, from which each step's `Step.key` is made for wrappers that need randomness.
      before_step, after_step: map the state before and after each step, for example to keep a known region.
    """
    table = sampler.table(process, timesteps, last_alpha)
    jumps = "back_sigma" in table
    _check(jumps or (sampler.is_noisy and noises is None), keys, every)
    num_steps = len(table["t"])
    draw = _make_draw("sampler", keys if sampler.is_noisy else None, noises, z.shape[1:])
    draw_back = _make_draw("back", keys, None, z.shape[1:])

    def advance(carry: tuple[Array, Prediction, Any, Array | None], row: dict[str, Any]):
        z, previous, memory, kept = carry
        index = row["index"]
        key = None if step_key is None else jax.random.fold_in(step_key, index)
        step = Step(row["t"], row["t_next"], index, is_last=index == num_steps - 1, key=key, previous=previous)
        z = row["back_signal"] * z + row["back_sigma"] * draw_back(row) if jumps else z
        z = before_step(z, step) if before_step else z
        prediction = denoiser(z, step, cond)
        previous = dataclasses.replace(prediction, variance=None)
        prediction, memory = sampler.correct(z, prediction, memory, row, _asking(denoiser, step, cond))
        z = sampler.step(z, prediction, row, draw(row))
        z = after_step(z, step) if after_step else z
        if every is not None:  # each step overwrites its slot until the slot's last one stays
            kept = jax.lax.dynamic_update_index_in_dim(kept, z, index // every, 0)
        return (z, previous, memory, kept), None

    z = z.astype(jnp.float32)
    kept = None if every is None else jnp.zeros((-(-num_steps // every), *z.shape), jnp.float32)
    rows = {name: jnp.asarray(column) for name, column in table.items()}
    rows |= {"index": jnp.arange(num_steps, dtype=jnp.int32), "given_noise": noises}
    nothing = Prediction(jnp.zeros_like(z), jnp.zeros_like(z))
    (z, _, _, kept), _ = jax.lax.scan(advance, (z, nothing, sampler.memory(z), kept), rows)
    return Samples(z, kept, num_steps)


def _check(needs_keys: bool, keys: Array | None, every: int | None) -> None:
    if needs_keys and keys is None:
        raise UserError("this sampler draws noise; give it keys, or noises")
    if every is not None and every < 1:
        raise UserError(f"every is {every}; expected at least 1")


def _asking(denoiser: Denoiser, step: Step, cond: Cond) -> Ask:
    """Asks the denoiser of other states within a step."""
    return lambda z, t: denoiser(z, dataclasses.replace(step, t=t), cond)


def _make_draw(
    name: str, keys: Array | None, noises: Array | None, shape: tuple[int, ...]
) -> Callable[[dict], Array | None]:
    """What gives the noise (B, *shape) of a row: the given one, a fresh draw of the stream `name`, or None."""
    if noises is not None:
        return lambda row: row["given_noise"]
    if keys is None:
        return lambda row: None
    stream = rng.stream_each(keys, name)
    return lambda row: rng.normal_each(rng.fold_each(stream, row["index"]), shape)
