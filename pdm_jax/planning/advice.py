"""What would make a program fit, from what its memory is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.config import Config
from pdm_jax.errors import UserError
from pdm_jax.planning.measured import Measured
from pdm_jax.systems import make_system
from pdm_jax.types import Array, Params


@dataclasses.dataclass(frozen=True)
class Use:
    """Bytes a device at the worst moment, by what they are for, and the settings that make it so."""

    state: float  # weights, optimiser state, averages
    gradients: float
    activations: float  # and whatever else comes and goes with the batch
    settings: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """All of it."""
        return self.state + self.gradients + self.activations

    def after(self, setting: str, **changes: float) -> Use:
        """The same with one more setting."""
        return dataclasses.replace(self, settings=(*self.settings, setting), **changes)


Remedy = Callable[[Use], Use]


def use_of(kind: str, measured: Measured) -> Use:
    """What the memory of a program is made of."""
    gradients = 4 * measured.num_parameters / measured.mesh["fsdp"] if kind == "train" else 0.0
    rest = measured.peak_bytes - measured.state_bytes - gradients
    return Use(measured.state_bytes, gradients, max(rest, 0.0))


def advise(kind: str, config: Config, measured: Measured, memory: float) -> list[Use]:
    """Settings that make it fit, each alone; where none does, those that do together or come closest.

    Args:
      kind: of program, "train" or "sample".
      memory: bytes that a device has.
    """
    use, remedies = use_of(kind, measured), [_fsdp(measured, memory)]
    if kind == "train":
        remedies += [_host_averages(config, measured), _remat(config), _accumulation(config, measured, memory)]
    alone = [remedy(use) for remedy in remedies]
    if fitting := [each for each in alone if each.total <= memory and each.settings]:
        return fitting
    for remedy in remedies:
        use = remedy(use)
        if use.total <= memory:
            break
    return [use] if use.settings else []


def saved_bytes(config: Config) -> int:
    """Bytes over all devices that the forward pass keeps for the backward pass of one batch, weights included."""
    system = make_system(config)
    (group, loss), *_ = system.losses.items()

    def residuals(params: Params, batch: dict[str, Array]):
        keys = rng.sample_keys(jax.random.key(0), jnp.arange(config.data.batch_size))
        return jax.vjp(lambda own: loss(params | {group: own}, batch, keys, jnp.int32(0))[0].mean(), params[group])[1]

    inputs = system.inputs | ({"code": system.told["code"]} if system.table else {})
    batch = {name: jax.ShapeDtypeStruct((config.data.batch_size, *x.shape), x.dtype) for name, x in inputs.items()}
    kept = jax.eval_shape(residuals, system.all_shapes, batch)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept))


def _fsdp(measured: Measured, memory: float) -> Remedy:
    """The state over the fewest devices that make it fit, or over all."""
    data = measured.mesh["data"] if measured.mesh["fsdp"] == 1 else 1

    def remedy(use: Use) -> Use:
        return _first_that_fits(
            [use.after(f"config.mesh.fsdp={n}", state=use.state / n) for n in _factors(data)], use, memory
        )

    return remedy


def _accumulation(config: Config, measured: Measured, memory: float) -> Remedy:
    """The fewest micro-batches that make it fit, beside a second copy of the gradients that adds them up."""
    now = config.optimizer.accumulation
    samples = config.data.batch_size // (measured.mesh["data"] * measured.mesh["fsdp"] * now)

    def remedy(use: Use) -> Use:
        gradients = use.gradients * (2 if now == 1 else 1)
        choices = [
            use.after(f"config.optimizer.accumulation={now * n}", gradients=gradients, activations=use.activations / n)
            for n in _factors(samples)
        ]
        return _first_that_fits(choices, use, memory)

    return remedy


def _host_averages(config: Config, measured: Measured) -> Remedy:
    """One copy of the weights less."""
    if config.ema.place == "host":
        return lambda use: use
    share = measured.num_parameters * 4 / measured.mesh["fsdp"] / measured.state_bytes
    return lambda use: use.after("config.ema.place=host", state=use.state * (1 - share))


def _remat(config: Config) -> Remedy:
    """Activations shrink as what the traced programs keep for the backward pass does."""
    network = {**config.model.network, "use_remat": True}
    lean = dataclasses.replace(config, model=dataclasses.replace(config.model, network=network))
    try:
        ratio = saved_bytes(lean) / saved_bytes(config)
    except UserError:  # this network cannot recompute
        ratio = 1.0
    if ratio >= 1:
        return lambda use: use
    return lambda use: use.after("config.model.network.use_remat=True", activations=use.activations * ratio)


def _factors(number: int) -> list[int]:
    return [n for n in range(2, number + 1) if number % n == 0]


def _first_that_fits(choices: list[Use], otherwise: Use, memory: float) -> Use:
    """The first choice that fits, or the last one; `otherwise` if there are none."""
    return next((use for use in choices if use.total <= memory), choices[-1] if choices else otherwise)
