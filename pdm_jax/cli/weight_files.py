"""The formats of `pdm import`: what each program's files hold, as the state of a run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdm_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from pdm_jax.config import Config

# (file, config) -> the config with what the file says of it, and {"params", "ema"} by group; of latent diffusion also
# "frozen". Groups that the file has not are left out.
Read = Callable[[Path, "Config"], tuple["Config", dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Format:
    """How a program's files are imported."""

    backbones: Mapping[str, str | None]  # of each system that its files are for; None is any
    read: Read
    settings: Callable[[], dict[str, Any]] = dict  # of the network, which its files need

    def check_model(self, name: str, config: Config) -> None:
        """Raises a `UserError` unless files of this format, called `name`, are for models such as the config's."""
        system, backbone = config.model.system, config.model.backbone
        if self.backbones.get(system, "") not in (backbone, None):
            each = (f"{own!r}{f' with the backbone {b!r}' if b else ''}" for own, b in self.backbones.items())
            raise UserError(
                f"--format={name} is for the system {' or '.join(each)}; the config's are {system!r} and {backbone!r}"
            )


def read_pdm(file: Path, config: Config, form: str) -> tuple[Config, dict[str, Any]]:
    """The config as it is, and the weights of the system pdm."""
    from pdm_jax.interop import adm, pdm_files, state_dicts
    from pdm_jax.systems.pdm import make_network

    definition = make_network(config.model, config.data.channels)
    read = {
        "pdm-tf": pdm_files.read_tf,
        "pdm-torch": pdm_files.read_torch,
        "adm": lambda file, definition: adm.load(state_dicts.read_tensors(file), definition),
    }[form]
    weights = {"network": read(file, definition)}
    return config, {"params": weights, "ema": weights}


def read_patch_dm(file: Path, config: Config) -> tuple[Config, dict[str, Any]]:
    """The config, with as many codes as the file's table has, and the weights of its system."""
    from pdm_jax.interop import patch_dm, state_dicts
    from pdm_jax.systems import code_prior
    from pdm_jax.systems.patch_dm import make_encoder, make_network

    copies, codes = patch_dm.copies(state_dicts.read_tensors(file)), config.codes
    if config.model.system == "code_prior":
        latent = code_prior.make_network(config)
        return config, {kind: {"network": patch_dm.load(copy, latent, "latent")} for kind, copy in copies.items()}
    definitions = {"unet": make_network(config.model, codes, config.data.channels)}
    if codes.kind == "encoder":
        definitions["encoder"] = make_encoder(codes, config.model.dtype, config.data.channels)
    weights = {
        kind: {"network": {name: patch_dm.load(copy, each, name) for name, each in definitions.items()}}
        for kind, copy in copies.items()
    }
    if codes.kind == "table":
        for kind, copy in copies.items():
            table = patch_dm.load_table(copy, codes.num, codes.dim)
            weights[kind]["codes"] = {"table": table}
            codes = dataclasses.replace(codes, num=len(table))
    return dataclasses.replace(config, codes=codes), weights


def read_ldm(file: Path, config: Config) -> tuple[Config, dict[str, Any]]:
    """The config, with its first stage's settings, and the weights of the system ldm, or of autoencoder."""
    from pdm_jax.diffusion import make_process
    from pdm_jax.interop import ldm, state_dicts
    from pdm_jax.pipelines.told import open_tokenizer
    from pdm_jax.systems.conditions import NULL_TOKENS, make_conditions
    from pdm_jax.systems.latent import FIRST_STAGE, SCALE, make_space
    from pdm_jax.systems.ldm import NETWORK, make_network
    from pdm_jax.training.frozen import with_first_stage

    tensors = state_dicts.read_tensors(file)
    if config.model.system == "autoencoder":
        return config, _first_stage(tensors, config)
    if config.latent.kind == "none":
        raise UserError("config.latent.kind is 'none' and files of ldm have a first stage; set it to 'kl' or 'vq'")
    config = config if config.latent.network is not None else with_first_stage(config)
    space = make_space(config)
    conditions = make_conditions(config, space)
    ldm.check_schedule(tensors, make_process(config.diffusion))
    weights = ldm.load(
        tensors, ldm.Networks(make_network(config, conditions), conditions.definitions, space.definition)
    )
    frozen = {FIRST_STAGE: weights.first_stage, SCALE: _scale(weights.scale, config.latent.scale)}
    if "text" in conditions.kinds:
        frozen[NULL_TOKENS] = open_tokenizer(config)("")
    return config, {"params": {NETWORK: weights.params}, "ema": {NETWORK: weights.ema}, "frozen": frozen}


def _first_stage(tensors: Mapping[str, np.ndarray], config: Config) -> dict[str, Any]:
    """The autoencoder, its critic if config and file have one, and the perceptual network if the config has one."""
    from pdm_jax.interop import ldm, ldm_autoencoder
    from pdm_jax.systems.autoencoder import CRITIC, PERCEPTUAL, define_critic, make_system
    from pdm_jax.systems.latent import FIRST_STAGE, make_first_stage

    system, frozen = make_system(config), {}
    definition, _, _ = make_first_stage(config.latent, config.data.channels)
    weights = {FIRST_STAGE: ldm.load_first_stage(tensors, definition)}
    if CRITIC in system.shapes and _holds(tensors, "loss.discriminator."):
        weights[CRITIC] = ldm_autoencoder.load_critic(tensors, define_critic(config, system.space.picture))
    if PERCEPTUAL in system.frozen:
        if not _holds(tensors, "loss.perceptual_loss."):
            raise UserError(
                "config.reconstruction.perceptual is set and the file has no perceptual network (loss.perceptual_loss"
                ".*); leave it out to import, and set it in a run that starts from this one (--init-from)"
            )
        frozen[PERCEPTUAL] = ldm_autoencoder.load_perceptual(tensors, system.frozen[PERCEPTUAL])
    return {"params": weights, "ema": weights, "frozen": frozen}


def _holds(tensors: Mapping[str, np.ndarray], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in tensors)


def _scale(found: float | None, wanted: float | None) -> np.float32:
    """What latents are multiplied by, of the file and of `config.latent.scale`."""
    import numpy as np

    if found is None and wanted is None:
        raise UserError(
            "the file does not say what latents are multiplied by, and config.latent.scale is None; set it to what the "
            "model was trained with, such as 1.0 (vq) or 0.18215"
        )
    if None not in (found, wanted) and not np.isclose(found, wanted, rtol=1e-4):
        raise UserError(
            f"the file multiplies latents by {found:.6g} and config.latent.scale is {wanted:g}; set it to None, which "
            "takes the file's"
        )
    return np.float32(wanted if found is None else found)


def _norm_eps() -> dict[str, Any]:
    from pdm_jax.interop.pdm import TORCH_NORM_EPS

    return {"norm_eps": TORCH_NORM_EPS}


FORMATS = {
    "pdm-tf": Format({"pdm": "pdm_unet"}, functools.partial(read_pdm, form="pdm-tf")),
    "pdm-torch": Format({"pdm": "pdm_unet"}, functools.partial(read_pdm, form="pdm-torch"), _norm_eps),
    "adm": Format({"pdm": "adm_unet"}, functools.partial(read_pdm, form="adm"), lambda: {"has_null": False}),
    "patch-dm": Format({"patch_dm": "patch_unet", "code_prior": None}, read_patch_dm),
    "ldm": Format({"ldm": "ldm_unet", "autoencoder": None}, read_ldm),
}
