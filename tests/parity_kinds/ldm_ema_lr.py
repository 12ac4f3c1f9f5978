"""LDM's averaged weights, and the learning-rate schedules of its configs by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.config import EmaConfig, OptimizerConfig
from pdm_jax.errors import UserError
from pdm_jax.training.averages import update_ema
from pdm_jax.training.rates import learning_rate
from pdm_jax.types import Array
from tests.parity_kinds._case import Case
from tests.parity_kinds._ldm_samplers import found

INPUTS = ("init__*", "param_step*", "decay", "lr_steps")
# What the names stand for, as multiples of the rate. A second cycle's own peak is a rate, its factors are of that.
_SCHEDULES = {
    "lambda_linear_churches": OptimizerConfig(learning_rate=1.0, warmup_steps=10_000, start_factor=1e-6),
    "lambda_linear_decay": OptimizerConfig(
        1.0, schedule="linear", warmup_steps=500, schedule_steps=70_000, start_factor=1e-3, end_factor=0.1
    ),
    "warmup_cosine_inpainting": OptimizerConfig(
        0.1, schedule="cosine", warmup_steps=1000, schedule_steps=50_000, start_factor=1e-2, end_factor=1e-3
    ),
    "warmup_cosine2_two_cycles": OptimizerConfig(
        learning_rate=1.0,
        warmup_steps=100,
        schedule="cosine",
        schedule_steps=20_000,
        start_factor=0.01,
        end_factor=0.1,
        restarts=({"learning_rate": 0.5, "warmup_steps": 200, "schedule_steps": 50_000},),
    ),
}


def run(case: Case) -> dict[str, Array]:
    """The averages after each step, and the multipliers at the asked steps."""
    io = case.io
    config = EmaConfig(decay=float(io["decay"][0]), warmup=True)
    ema = {name.removeprefix("init__"): jnp.asarray(x) for name, x in io.items() if name.startswith("init__")}
    numbers = sorted({name.split("__")[0].removeprefix("param_step") for name in io if name.startswith("param_step")})
    out, update = {"num_updates": np.array([len(numbers)])}, jax.jit(lambda *args: update_ema(*args, config))
    for i, number in enumerate(numbers):
        params = {name: jnp.asarray(io[f"param_step{number}__{name}"]) for name in ema}
        ema = update(ema, params, jnp.int32(i))
        out |= {f"ema_step{number}__{name}": x for name, x in ema.items()}
    for name in found("lr_(.+)", case.wanted):
        if name not in _SCHEDULES:
            raise UserError(f"the schedule {name!r} is not known; known are {', '.join(_SCHEDULES)}")
        out[f"lr_{name}"] = jax.vmap(learning_rate(_SCHEDULES[name]))(jnp.asarray(io["lr_steps"], jnp.int32))
    return out
