"""latent-diffusion's checkpoints of whole models: U-Net, its average, first stage, what makes conditions, schedule.

Averages go by the names of the parameters inside `model` without their dots.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pdm_jax.diffusion import Process
from pdm_jax.errors import UserError
from pdm_jax.interop import ldm_autoencoder, ldm_conditioners, ldm_unet
from pdm_jax.interop.matching import Shape, match_names
from pdm_jax.interop.state_dicts import Tensors
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Params

UNET = "unet"
SCALE = "scale_factor"
_UNET, _CONDITION, _FIRST_STAGE = "model.diffusion_model.", "cond_stage_model.", "first_stage_model."
_AVERAGE = "model_ema."
_COUNTERS = (f"{_AVERAGE}decay", f"{_AVERAGE}num_updates")
_UNUSED = rf"({_FIRST_STAGE})?loss\..*|{_CONDITION}transformer\.to_logits\..*"
_SMALLEST = 1e-20  # variance before its logarithm
_SCHEDULE: Mapping[str, Callable[[Process], np.ndarray]] = {
    "betas": lambda p: p.beta,
    "alphas_cumprod": lambda p: p.alpha_bar,
    "alphas_cumprod_prev": lambda p: p.alpha_bar_prev,
    "sqrt_alphas_cumprod": lambda p: p.signal,
    "sqrt_one_minus_alphas_cumprod": lambda p: p.sigma,
    "log_one_minus_alphas_cumprod": lambda p: np.log(1 - p.alpha_bar),
    "sqrt_recip_alphas_cumprod": lambda p: 1 / p.signal,
    "sqrt_recipm1_alphas_cumprod": lambda p: p.sigma / p.signal,
    "posterior_variance": lambda p: p.posterior_variance,
    "posterior_log_variance_clipped": lambda p: np.log(np.maximum(p.posterior_variance, _SMALLEST)),
    "posterior_mean_coef1": lambda p: p.posterior_x0,
    "posterior_mean_coef2": lambda p: p.posterior_z,
}


@dataclasses.dataclass(frozen=True)
class Networks:
    """What a checkpoint holds the weights of."""

    unet: Definition
    readers: Mapping[str, Definition]  # what makes conditions, by our name of it
    first_stage: Definition

    def shapes(self) -> dict[str, dict[str, Shape]]:
        """Names and shapes in the file of each: `unet`, the readers, `first_stage`."""
        return {
            UNET: _prefixed(_UNET, ldm_unet.official_shapes(self.unet)),
            **{
                name: _prefixed(_CONDITION, ldm_conditioners.official_shapes(each))
                for name, each in self.readers.items()
            },
            "first_stage": _prefixed(_FIRST_STAGE, ldm_autoencoder.official_shapes(self.first_stage)),
        }


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a checkpoint says."""

    params: Params  # {"unet", and each reader}
    ema: Params  # the same, with the average of the U-Net where the file has one
    first_stage: Params
    scale: float | None  # of latents; None: the file does not say


def load(tensors: Tensors, networks: Networks) -> Weights:
    """The weights of a checkpoint; what it holds of losses, and the text encoder's unused logits, are passed over.

    Raises:
      UserError: tensors are missing, surplus or misshapen; lists them by their names there.
    """
    own = {name: x for name, x in tensors.items() if not re.fullmatch(_UNUSED, name)}
    shapes, wanted = networks.shapes(), _wanted(own, networks)
    own = _without_repeated_stage(own, wanted)
    _check_traits(own, wanted)
    match_names(own, wanted)
    readers = {
        name: ldm_conditioners.load(_chosen(own, shapes[name], _CONDITION), each)
        for name, each in networks.readers.items()
    }
    unet = ldm_unet.load(_chosen(own, shapes[UNET], _UNET), networks.unet)
    average = unet
    if _is_averaged(own):
        averages = {name: own[averaged_name(name)] for name in shapes[UNET]}
        average = ldm_unet.load(_chosen(averages, shapes[UNET], _UNET), networks.unet)
    return Weights(
        params={UNET: unet, **readers},
        ema={UNET: average, **readers},
        first_stage=ldm_autoencoder.load(_chosen(own, shapes["first_stage"], _FIRST_STAGE), networks.first_stage),
        scale=float(own[SCALE]) if SCALE in own else None,
    )


def check_schedule(tensors: Tensors, process: Process) -> None:
    """Raises a `UserError` unless the file's tables of the noise process are those of `process`."""
    for name, table in _SCHEDULE.items():
        if name in tensors and not _close(tensors[name], table(process)):
            raise UserError(
                f"the file's noise schedule ({_described(tensors)}) is not the config's "
                f"({_described(_tables(process))}): {name} differs; set config.diffusion to the file's"
            )


def to_official(weights: Weights, networks: Networks, process: Process) -> dict[str, np.ndarray]:
    """The state dict of a model that keeps averages, in its order; the inverse of `load`."""
    unet, average = (
        _prefixed(_UNET, ldm_unet.to_official(tree[UNET], networks.unet)) for tree in (weights.params, weights.ema)
    )
    out = _tables(process) | ({} if weights.scale is None else {SCALE: np.float32(weights.scale)}) | unet
    out |= dict(zip(_COUNTERS, (np.float32(0.9999), np.int32(0)), strict=True))
    out |= {averaged_name(name): x for name, x in average.items()}
    out |= _prefixed(_FIRST_STAGE, ldm_autoencoder.to_official(weights.first_stage, networks.first_stage))
    for name, definition in networks.readers.items():
        out |= _prefixed(_CONDITION, ldm_conditioners.to_official(weights.params[name], definition))
    return out


def official_shapes(networks: Networks, num_steps: int) -> dict[str, Shape]:
    """Names and shapes of the state dict of a model that keeps averages, in its order, without `scale_factor`."""
    shapes = networks.shapes()
    unet, first_stage = shapes.pop(UNET), shapes.pop("first_stage")
    averages = {averaged_name(name): shape for name, shape in unet.items()}
    out = dict.fromkeys(_SCHEDULE, (num_steps,)) | unet | dict.fromkeys(_COUNTERS, ()) | averages | first_stage
    return out | {name: shape for own in shapes.values() for name, shape in own.items()}


def averaged_name(name: str) -> str:
    """The name of the average of a parameter of the U-Net, `model.diffusion_model....`."""
    return _AVERAGE + name.removeprefix("model.").replace(".", "")


def load_first_stage(tensors: Tensors, definition: Definition) -> Params:
    """Parameters of a first stage from a file of its own, or of a diffusion model on it; raises as `load` does."""
    within = {name.removeprefix(_FIRST_STAGE): x for name, x in tensors.items() if name.startswith(_FIRST_STAGE)}
    own = within or tensors
    wanted = _prefixed(_FIRST_STAGE, ldm_autoencoder.official_shapes(definition))
    _check_traits(_prefixed(_FIRST_STAGE, own), wanted)
    return ldm_autoencoder.load(own, definition)


def _check_traits(tensors: Tensors, wanted: Mapping[str, Shape]) -> None:
    """Raises a `UserError` that names the first of a few sizes in which file and networks differ, if one does.

    A file of another model differs in nearly all of its names; this says why.
    """
    have, want = _traits({name: x.shape for name, x in tensors.items()}), _traits(wanted)
    if wrong := [trait for trait, value in have.items() if value is not None and value != want[trait]]:
        raise UserError(
            f"the file and the config do not fit: {wrong[0]} is {have[wrong[0]]} in the file and {want[wrong[0]]} by "
            "the config; use the config of the model that the file is of"
        )


def _traits(shapes: Mapping[str, Shape]) -> dict[str, int | None]:
    """Sizes that tell models apart; None where the names are not there."""
    levels = {match[1] for name in shapes if (match := re.match(rf"{_FIRST_STAGE}encoder\.down\.(\d+)\.", name))}
    sizes = {
        "the number of channels of latents": (f"{_FIRST_STAGE}post_quant_conv.weight", 1),
        "the number of channels that the U-Net takes": (f"{_UNET}input_blocks.0.0.weight", 1),
        "the number of channels that the U-Net gives": (f"{_UNET}out.2.weight", 0),
        "the U-Net's width": (f"{_UNET}input_blocks.0.0.weight", 0),
    }
    found = {trait: shapes[name][axis] if name in shapes else None for trait, (name, axis) in sizes.items()}
    codes = shapes.get(f"{_FIRST_STAGE}quantize.embedding.weight", (0,))[0]
    return {
        "the first stage's f": 2 ** (len(levels) - 1) if levels else None,
        "the number of codes (0 for kl)": codes if levels else None,
        **found,
    }


def _wanted(tensors: Tensors, networks: Networks) -> dict[str, Shape]:
    """Names and shapes that the file must have, with those it may have as far as it has any of their kind."""
    shapes = networks.shapes()
    wanted = {name: shape for own in shapes.values() for name, shape in own.items()}
    wanted |= {name: tensors[name].shape for name in (*_SCHEDULE, *_COUNTERS) if name in tensors}
    wanted |= {SCALE: ()} if SCALE in tensors else {}
    averages = {averaged_name(name): shape for name, shape in shapes[UNET].items()}
    return wanted | (averages if _is_averaged(tensors) else {})


def _is_averaged(tensors: Tensors) -> bool:
    return any(name.startswith(_AVERAGE) for name in tensors)


def _without_repeated_stage(tensors: Tensors, wanted: Mapping[str, Shape]) -> Tensors:
    """Without the first stage as what makes conditions: the program's models of holes have it twice."""
    kept = {}
    for name, x in tensors.items():
        first = _FIRST_STAGE + name.removeprefix(_CONDITION)
        if name in wanted or not name.startswith(_CONDITION) or first not in tensors:
            kept[name] = x
        elif not np.array_equal(x, tensors[first]):
            raise UserError(f"the file has two versions of {first}, the other as {name}; give one whose two are alike")
    return kept


def _chosen(tensors: Tensors, shapes: Mapping[str, Shape], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): tensors[name] for name in shapes}


def _prefixed(prefix: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in entries.items()}


def _tables(process: Process) -> dict[str, np.ndarray]:
    return {name: np.float32(table(process)) for name, table in _SCHEDULE.items()}


def _close(got: np.ndarray, table: np.ndarray) -> bool:
    return got.shape == table.shape and np.allclose(got, table, rtol=1e-4, atol=1e-6)


def _described(tables: Tensors) -> str:
    """A schedule by its length and ends."""
    beta = tables.get("betas", np.zeros(0))
    return f"{len(beta)} steps, beta {beta[0]:.6g} to {beta[-1]:.6g}" if beta.size else "without betas"
