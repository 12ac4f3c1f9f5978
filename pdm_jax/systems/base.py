"""What training and sampling need to know of a model, and nothing else."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pdm_jax.config import LossConfig, convert
from pdm_jax.diffusion import Process
from pdm_jax.errors import UserError
from pdm_jax.systems.space import Space
from pdm_jax.types import Array, Cond, Denoiser, Params

# (params of all groups and frozen ones, batch, one key a sample, updates done) -> loss of each sample [B] and terms to
# log, each [B].
Loss = Callable[[Params, Mapping[str, Array], Array, Array], tuple[Array, dict[str, Array]]]
Told = Mapping[str, Array]  # what sampling is told: label [B], code (B, D), position (B, n + 1, m + 1, 3), and what
# a batch holds of each kind of `config.condition`


@dataclasses.dataclass(frozen=True)
class Table:
    """A group of parameters `{"table": (N, D)}` with a row for each record of the data.

    A training step never gathers it: it reads the rows of its batch, which losses find as `batch["code"]`.
    """

    group: str
    lazy: bool  # only the rows of a batch are updated, each by an Adam that counts its own updates


@dataclasses.dataclass(frozen=True)
class System:
    """A model as pure functions; parameters are `{group: nested dict}`.

    Losses are per sample and the trainer averages them over the global batch, so that mesh and accumulation change
    nothing (but for first stages, whose critic normalises by what is in a micro-batch). Each group is optimised by its
    own loss, one after the other: a later one sees the parameters that the earlier ones got in this step. A table is
    optimised by the loss of the network it serves. Frozen groups are neither optimised nor averaged; losses, denoiser
    and space find them beside the others in `params`.
    """

    init: Callable[[Array], Params]  # PRNG key -> parameters; jit it
    shapes: Params  # of the parameters, as ShapeDtypeStructs
    losses: Mapping[str, Loss]  # one a group
    denoiser: Callable[[Params], Denoiser] | None  # call it while tracing; None: it makes no images of noise
    null: Callable[[Params, Cond], Cond]  # the condition of an unconditional prediction
    has_null: bool  # whether training drops what the network is told, so that `null` means something: for guidance
    guides: str  # what guidance is formed of: "eps" where the network puts it out, else "x0"
    dropouts: tuple[str, ...]  # the settings of config.loss that drop it; () where it is told nothing
    process: Process
    space: Space  # what is sampled, and how images become it and come of it
    num_classes: int  # 0 is unconditional
    inputs: Mapping[str, jax.ShapeDtypeStruct]  # what a step takes of each sample: its image, label, ...
    told: Mapping[str, jax.ShapeDtypeStruct]  # what sampling must be told of each
    cond: Callable[[Params, Told, tuple[int, ...]], Cond]  # of what is told and the shape (B, H, W, C) of the state
    # (params, {"image": uint8, "index"}) -> codes (B, D) of images of the data; None: the model has none
    codes: Callable[[Params, Mapping[str, Array]], Array] | None = None
    table: Table | None = None
    frozen: Params = dataclasses.field(default_factory=dict)  # shapes of the frozen groups
    reconstruct: Callable[[Params, Array], Array] | None = None  # of a first stage: uint8 images -> float ones

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of what is sampled: of latents, in latent diffusion."""
        return self.space.shape

    @property
    def all_shapes(self) -> Params:
        """Of the parameters and the frozen groups beside them: what sampling takes."""
        return {**self.shapes, **self.frozen}

    def networks(self, params: Params) -> Params:
        """The parameters without the table: what the denoiser needs, the frozen ones included if they are given."""
        return {group: tree for group, tree in params.items() if self.table is None or group != self.table.group}


def labels_of(num_classes: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What a batch and sampling hold of classes."""
    return {"label": jax.ShapeDtypeStruct((), jnp.int32)} if num_classes else {}


def check_dtype(dtype: str) -> None:
    """Raises a `UserError` unless `dtype` is one that networks compute in."""
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"config.model.dtype is {dtype!r}; expected 'float32' or 'bfloat16'")


def check_steps(loss: LossConfig, num_steps: int) -> None:
    """Raises a `UserError` unless there are steps to train."""
    if not 0 <= loss.t_min < loss.t_max <= num_steps:
        raise UserError(
            f"config.loss trains steps [{loss.t_min}, {loss.t_max}); expected 0 <= t_min < t_max <= {num_steps}"
        )


def check_arguments(cls: type, arguments: Mapping[str, Any], given: set[str], path: str) -> dict[str, Any]:
    """Checks settings against a constructor's keyword arguments and their types; returns them converted.

    Args:
      cls: the network.
      arguments: the settings under `path` of the config.
      given: arguments that the system sets itself.

    Raises:
      UserError: a setting is unknown or of a wrong type, or one that is needed is missing.
    """
    hints = typing.get_type_hints(cls.__init__)
    parameters = {name: p for name, p in inspect.signature(cls.__init__).parameters.items() if name != "self"}
    allowed = [name for name in parameters if name not in given]
    if unknown := [name for name in arguments if name not in allowed]:
        raise UserError(f"{path}.{unknown[0]} is no setting of {cls.__name__}; it has {', '.join(allowed)}")
    needed = [name for name in allowed if parameters[name].default is inspect.Parameter.empty]
    if missing := [name for name in needed if name not in arguments]:
        raise UserError(f"{path}.{missing[0]} is missing; {cls.__name__} needs {', '.join(needed)}")
    return {name: convert(value, hints[name], f"{path}.{name}") for name, value in arguments.items()}
