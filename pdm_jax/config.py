"""The config groups as frozen dataclasses, read strictly from plain nested mappings.

Config files make an `ml_collections.ConfigDict`; it crosses into the package once, through `read`.
An unknown, missing or mistyped key is a `UserError` that names it. A field marked with `_free` may
differ between a run and its continuation: it changes what is reported, kept or when the run ends, never the
numbers of a training step.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

from pdm_jax.errors import UserError


def _free(default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"free": True})


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where images come from and how they become (image_size, image_size, channels) uint8 arrays."""

    source: str  # builtin:digits | builtin:photos | folder:PATH | zip:PATH | arrayrecord:PATTERN | tfds:NAME
    image_size: int
    batch_size: int  # over all devices and hosts
    channels: int = 3  # 3 (RGB) or 1 (grey)
    split: str = "train"  # which part, where the source has parts (tfds)
    crop: str = "center"  # center | random
    min_crop: float = 0.8  # random crop: the smallest part of the shorter side that is kept, in (0, 1]
    flip: bool = False  # mirror left-right with probability 1/2
    num_workers: int = _free(0)  # decoding processes; 0 decodes in threads


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """The noise process."""

    schedule: str = "linear"  # linear | cosine | ldm_linear | sqrt_linear | sqrt | constant
    num_steps: int = 1000  # T
    beta_min: float = 1e-4
    beta_max: float = 0.02
    dtype: str = "float64"  # in which the tables are computed: float64 | float32 (as some official programs)
    last_alpha: str = "one"  # alpha_bar before t=0 in the posterior: one | first (alpha_bar of t=0, as PDM)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What is trained."""

    system: str  # a module of pdm_jax.systems: pdm
    network: Mapping[str, Any]  # the network's own keyword arguments
    patch_size: int = 1  # P: pixels moved to channels
    prediction: str = "x0"  # what the network puts out: x0 | eps | v
    num_classes: int = 0  # 0 is unconditional
    dtype: str = "float32"  # compute: float32 | bfloat16


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The training objective; all terms are means over the global batch."""

    kind: str = "sqrt_snr"  # sqrt_snr (pixel sum of the x0 error times sqrt(SNR), PDM) | mse (pixel mean)
    target: str = "x0"  # which error: x0 | eps | v (sqrt_snr: x0)
    vlb_weight: float = 0.0  # of L_vlb (pixel sum, nats). PDM's own balance is its batch size per replica.
    t_min: int = 0  # training steps are uniform in [t_min, t_max)
    t_max: int = 1000
    label_dropout: float = 0.0  # probability that a label becomes the null label


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam with linear warm-up from 0, then constant."""

    learning_rate: float = 1e-4
    warmup_steps: int = 0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-7
    clip_norm: float | None = None  # largest global gradient norm
    accumulation: int = 1  # micro-batches a step; the batch must divide by it


@dataclasses.dataclass(frozen=True)
class EmaConfig:
    """Averaged weights: ema = decay * ema + (1 - decay) * params whenever step % every == 0."""

    decay: float = 0.9999
    every: int = 1
    place: str = "device"  # device | host (one copy in host memory, as PDM)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When a checkpoint is written and how long it is kept."""

    save_every: int = _free(1000)
    keep_last: int = _free(3)
    keep_every: int | None = _free(None)  # also keep each multiple of this for ever


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The length of a run and what it reports."""

    num_steps: int = _free(1000)
    log_every: int = _free(100)
    grid_every: int | None = _free(None)  # sample grid every so many steps; None is never
    grid_size: int = _free(16)  # images in the grid


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Defaults of sampling; each has a flag of `pdm sample`."""

    sampler: str = _free("ancestral")  # ancestral | ddim
    steps: str = _free("250")  # a count, sections "90,60,60,20,20", "ddim50", "uniform50" or "quad50"
    eta: float = _free(0.0)  # DDIM's noise: 0 is deterministic, 1 is as noisy as ancestral
    last_alpha: str = _free("one")  # alpha_bar that the last step goes to: one | first
    clip: str = _free("none")  # of x0, at each step: none | static (to [-1, 1]) | dynamic (percentile)
    guidance: float = _free(1.0)  # w in uncond + w (cond - uncond); 1 is none


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How devices are arranged; at most one entry may be -1 (all that are left)."""

    data: int = _free(-1)
    fsdp: int = _free(1)


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    data: DataConfig
    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    diffusion: DiffusionConfig = DiffusionConfig()
    ema: EmaConfig = EmaConfig()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    sample: SampleConfig = SampleConfig()
    mesh: MeshConfig = MeshConfig()
    seed: int = 0


def read(cls: type, mapping: Mapping[str, Any], path: str = "config") -> Any:
    """Reads a dataclass of this module from a nested mapping; `path` names the place in errors.

    Raises:
      UserError: a key that the group does not have, one that it needs, or a value of a wrong type.
    """
    if not isinstance(mapping, Mapping):
        raise UserError(f"{path} is {mapping!r}; expected a group with the keys {_names(cls)}")
    hints = typing.get_type_hints(cls)
    for key in mapping:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"did you mean {path}.{near[0]}?" if near else f"the keys are {_names(cls)}"
            raise UserError(f"{path}.{key} is not a config key; {hint}")
    values = {}
    for field in dataclasses.fields(cls):
        if field.name in mapping:
            values[field.name] = _convert(mapping[field.name], hints[field.name], f"{path}.{field.name}")
        elif field.default is dataclasses.MISSING:
            raise UserError(f"{path}.{field.name} is missing; set it in the config file")
    return cls(**values)


def to_dict(config: Any) -> dict[str, Any]:
    """The plain nested mapping that `read` would turn into `config`."""
    return dataclasses.asdict(config)


def differences(old: Config, new: Config) -> list[str]:
    """Lines `key: old -> new` for what differs between two configs and changes training."""
    return _differences(old, new, "config")


def _differences(old: Any, new: Any, path: str) -> list[str]:
    lines = []
    for field in dataclasses.fields(old):
        a, b = getattr(old, field.name), getattr(new, field.name)
        name = f"{path}.{field.name}"
        if a == b or field.metadata.get("free"):
            continue
        if dataclasses.is_dataclass(a) and dataclasses.is_dataclass(b):
            lines += _differences(a, b, name)
        elif isinstance(a, Mapping) and isinstance(b, Mapping):
            keys = sorted({*a, *b})
            lines += [f"{name}.{k}: {a.get(k)!r} -> {b.get(k)!r}" for k in keys if a.get(k) != b.get(k)]
        else:
            lines.append(f"{name}: {a!r} -> {b!r}")
    return lines


def _names(cls: type) -> str:
    return ", ".join(field.name for field in dataclasses.fields(cls))


def _convert(value: Any, hint: Any, path: str) -> Any:
    """Checks `value` against a field's type; an int is taken for a float or a string."""
    if dataclasses.is_dataclass(hint):
        return read(hint, value, path)
    if isinstance(hint, types.UnionType):
        if value is None and type(None) in hint.__args__:
            return None
        hint = next(arg for arg in hint.__args__ if arg is not type(None))
    if typing.get_origin(hint) is not None:  # Mapping[str, Any]
        if isinstance(value, Mapping):
            return {key: _plain(item) for key, item in value.items()}
        raise UserError(f"{path} is {value!r}; expected a group of keys")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{path} is {value!r}; expected {hint.__name__}")
    return value


def _plain(value: Any) -> Any:
    """Nested values as dicts and tuples, so that configs compare equal after a round trip through JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(_plain(item) for item in value) if isinstance(value, (list, tuple)) else value
