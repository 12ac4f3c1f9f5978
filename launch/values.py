"""The values of a launch, checked before anything is written."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pdm_jax.errors import UserError

ROOT = Path(__file__).parents[1]
_CLOUD, _GKE, _SLURM = ("tpu_vm", "gke"), ("gke",), ("slurm",)
_ALL = (*_CLOUD, *_SLURM)
_NAME = r"[a-z]([-a-z0-9]{0,28}[a-z0-9])?"
_PATH = r"(/[\w.+=-]+)+/?"
_BUCKET = rf"gs://[a-z0-9][-a-z0-9_.]+[a-z0-9]({_PATH})?"


def _value(pattern: str, example: str, *, of: tuple[str, ...] = _ALL, default: Any = dataclasses.MISSING) -> Any:
    """A value of the launchers `of`: text that matches, or a number or a truth value where the pattern is empty."""
    return dataclasses.field(default=default, metadata={"pattern": pattern, "example": example, "of": of})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Values:
    """What `launch/values.yaml` says, where each value is explained; those of other launchers may be None."""

    launcher: str = _value("tpu_vm|gke|slurm", "tpu_vm, gke or slurm")
    name: str = _value(_NAME, "at most 30 lower-case letters, digits and dashes, such as imagenet-p4")
    accelerator: str = _value(r"[a-z0-9:-]+", "such as v5litepod-16, or gpu:8 on SLURM")
    config: str = _value(r"\S+", "such as configs/pdm/imagenet256.py")
    workdir: str = _value(rf"{_BUCKET}|{_PATH}", "such as gs://my-bucket/runs/imagenet-p4")
    source: str = _value(r".*", "a data source such as tfds:imagenet2012", default="")
    arguments: Sequence[str] = _value("", 'a list of arguments of pdm train, such as ["--half=high"]', default=())
    data: str = _value(rf"({_BUCKET}|{_PATH})?", "such as gs://my-bucket/data", default="")
    max_restarts: int = _value("", "a number such as 20", default=20)
    project: str = _value(r"[a-z][-a-z0-9]{4,28}[a-z0-9]", "a project's id such as my-project", of=_CLOUD)
    zone: str = _value(r"[a-z]+-[a-z]+\d+-[a-z]", "such as us-west4-a", of=_CLOUD)
    spot: bool = _value("", "true or false", of=_CLOUD, default=True)
    runtime: str = _value(r"[\w.-]*", "a runtime of Cloud TPU such as v2-alpha-tpuv5-lite", of=("tpu_vm",), default="")
    cluster: str = _value(_NAME, "a cluster's name such as pdm", of=_GKE)
    image: str = _value(r"[\w.:/@-]+", "such as us-west4-docker.pkg.dev/my-project/pdm/pdm_jax:latest", of=_GKE)
    partition: str = _value(r"[\w,.-]+", "such as gpu", of=_SLURM)
    nodes: int = _value("", "a number such as 2", of=_SLURM)
    cpus_per_task: int = _value("", "a number such as 8", of=_SLURM)
    time_limit: str = _value(r"(\d+-)?\d\d?:\d\d:\d\d", 'quoted, such as "24:00:00"', of=_SLURM)
    environment: str = _value(_PATH, "the folder of a virtual environment", of=_SLURM)


def read_values(given: Mapping[str, Any]) -> Values:
    """Checks what a file of values and its overrides say.

    Raises:
      UserError: a key is unknown or missing, a value is malformed, the config does not exist, or a place cannot be
        reached from all hosts.
    """
    fields = {field.name: field for field in dataclasses.fields(Values)}
    for key in given:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected {', '.join(fields)}"
            raise UserError(f"{key} is no value of a launch; {hint}")
    for key, value in given.items():
        _check(fields[key], value)
    launcher = given.get("launcher", "")
    found = {}
    for key, field in fields.items():
        if launcher and launcher not in field.metadata["of"]:
            found[key] = None
        elif key in given:
            found[key] = given[key]
        elif field.default is dataclasses.MISSING:
            raise UserError(f"{key} is missing; expected {field.metadata['example']}")
    values = Values(**found)
    _check_places(values)
    return values


def _check(field: dataclasses.Field, value: Any) -> None:
    kinds = {"Sequence[str]": list, "int": int, "bool": bool, "str": str}
    good = type(value) is kinds[field.type]  # a truth value is no number
    if good and isinstance(value, str):
        good = re.fullmatch(field.metadata["pattern"], value) is not None
    elif good and isinstance(value, list):
        good = all(isinstance(each, str) for each in value)
    elif good and field.type == "int":
        good = value >= (0 if field.name == "max_restarts" else 1)
    if not good:
        raise UserError(f"{field.name} is {value!r}; expected {field.metadata['example']}")


def _check_places(values: Values) -> None:
    path = values.config.partition(":")[0]
    if not (ROOT / path).is_file():
        raise UserError(f"config is {values.config}; there is no {path} in the repository")
    on_slurm = values.launcher == "slurm"
    expected = "a folder that all nodes share" if on_slurm else "a bucket such as gs://my-bucket/runs, for all hosts"
    for key in ("workdir", "data"):
        place = getattr(values, key)
        if place and place.startswith("gs://") == on_slurm:
            raise UserError(f"{key} is {place}; {values.launcher} needs {expected}")
