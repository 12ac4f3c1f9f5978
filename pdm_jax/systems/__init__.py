"""Trainable things: a config becomes a `System` of parameters, losses and a denoiser."""

import dataclasses
from importlib import import_module

from pdm_jax import rng
from pdm_jax.config import Config
from pdm_jax.denoisers.split import split
from pdm_jax.errors import UserError
from pdm_jax.systems.base import System as System
from pdm_jax.systems.base import Told as Told
from pdm_jax.systems.parts import Part as Part
from pdm_jax.systems.parts import parts_of as parts_of
from pdm_jax.types import Denoiser, Params

_SYSTEMS = ("pdm", "patch_dm", "code_prior", "autoencoder", "ldm", "classifier")  # modules with a make_system


def make_system(config: Config) -> System:
    """The system that `config.model.system` names.

    A split model is for sampling: its parameters are `{part: those of the part's system}`, and it has no losses,
    since each part is trained as the system of its own config.

    Raises:
      UserError: the name is unknown, or its settings do not fit together.
    """
    if config.model.system not in _SYSTEMS:
        raise UserError(f"config.model.system is {config.model.system!r}; expected one of {', '.join(_SYSTEMS)}")
    _check_groups(config)
    make, parts = import_module(f"pdm_jax.systems.{config.model.system}").make_system, parts_of(config)
    if len(parts) == 1:
        return make(parts[0].config)
    _check_split(config)
    systems = {part.name: make(part.config) for part in parts}

    def denoiser(params: Params) -> Denoiser:
        frozen = {name: tree for name, tree in params.items() if name not in systems}
        each = [system.denoiser({**params[name], **frozen}) for name, system in systems.items()]
        return split(each, [part.start for part in parts[:-1]])

    return dataclasses.replace(
        systems[parts[0].name],
        init=lambda key: {name: system.init(rng.stream(key, name)) for name, system in systems.items()},
        shapes={name: system.shapes for name, system in systems.items()},
        losses={},
        denoiser=denoiser,
        has_null=all(system.has_null for system in systems.values()),
    )


def _check_groups(config: Config) -> None:
    """Raises a `UserError` for a group of settings that the config's system does not read."""
    system = config.model.system
    if config.codes.kind != "none" and system != "patch_dm":
        raise UserError(
            f"config.codes.kind is {config.codes.kind!r} and the system {system!r} has no codes; leave it out, or use "
            "patch_dm"
        )
    if config.condition.kinds and system != "ldm":
        raise UserError(
            f"config.condition.kinds is {list(config.condition.kinds)} and the system {system!r} is told of classes "
            "alone; leave it out, or use ldm"
        )
    if config.latent.kind != "none" and system == "code_prior":
        raise UserError(f"config.latent.kind is {config.latent.kind!r} and a code_prior is of codes; leave it out")


def _check_split(config: Config) -> None:
    """Raises a `UserError` for what the parts of a split model would each learn for themselves."""
    if config.codes.kind != "none":
        raise UserError(
            f"config.codes.kind is {config.codes.kind!r} and config.split cuts the model: each part would learn codes "
            "of its own; use kind 'none', or no split"
        )
    if learned := [kind for kind in config.condition.kinds if kind not in ("superres", "inpaint")]:
        raise UserError(
            f"config.condition.kinds has {learned[0]!r} and config.split cuts the model: each part would read it by a "
            "network of its own; use labels (config.model.num_classes), or no split"
        )
