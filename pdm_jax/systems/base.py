"""What training and sampling need to know of a model, and nothing else."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pdm_jax.config import convert
from pdm_jax.diffusion import Process
from pdm_jax.errors import UserError
from pdm_jax.types import Array, Cond, Denoiser, Params

# (params of all groups, batch, one key a sample) -> loss of each sample [B] and terms to log, each [B].
Loss = Callable[[Params, Mapping[str, Array], Array], tuple[Array, dict[str, Array]]]


@dataclasses.dataclass(frozen=True)
class System:
    """A model as pure functions; parameters are `{group: nested dict}`.

    Losses are per sample and the trainer averages them over the global batch, so that mesh and accumulation
    change nothing. Each group is optimised by its own loss.
    """

    init: Callable[[Array], Params]  # PRNG key -> parameters; jit it
    shapes: Params  # of the parameters, as ShapeDtypeStructs
    losses: Mapping[str, Loss]  # one a group
    denoiser: Callable[[Params], Denoiser]  # call it while tracing
    null: Callable[[Cond], Cond]  # the condition of an unconditional prediction
    has_null: bool  # whether training drops labels, so that `null` means something: guidance needs it
    process: Process
    image_shape: tuple[int, int, int]  # (H, W, C) of what is sampled
    num_classes: int  # 0 is unconditional


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
