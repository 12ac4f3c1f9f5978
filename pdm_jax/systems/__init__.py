"""Trainable things: a config becomes a `System` of parameters, losses and a denoiser."""

from pdm_jax.config import Config
from pdm_jax.errors import UserError
from pdm_jax.systems import pdm
from pdm_jax.systems.base import System as System
from pdm_jax.systems.parts import Part as Part
from pdm_jax.systems.parts import parts_of as parts_of

_SYSTEMS = {"pdm": pdm.make_system}


def make_system(config: Config) -> System:
    """The system that `config.model.system` names.

    Raises:
      UserError: the name is unknown, or its settings do not fit together.
    """
    if config.model.system not in _SYSTEMS:
        raise UserError(f"config.model.system is {config.model.system!r}; expected one of {', '.join(_SYSTEMS)}")
    return _SYSTEMS[config.model.system](config)
