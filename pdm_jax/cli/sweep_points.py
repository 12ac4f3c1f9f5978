"""The points of a sweep: every combination of what is swept, each a config, a folder and two commands."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pdm_jax.cli.config_files import load_config, parse_value
from pdm_jax.config import Config, differences, read, to_dict
from pdm_jax.errors import UserError
from pdm_jax.networks import count_params
from pdm_jax.systems import make_system

_BASE = "sweep.json"


@dataclasses.dataclass(frozen=True)
class Point:
    """One training and its evaluation."""

    values: Mapping[str, Any]  # what is swept, by short names: {"patch_size": 2, "learning_rate": 1e-4}
    settings: tuple[str, ...]  # the same as arguments: --config.model.patch_size=2
    config: Config
    num_params: int
    folder: Path

    @property
    def name(self) -> str:
        """`patch_size=2,learning_rate=0.0001`, safe in a path and unique in the sweep."""
        return self.folder.name


def read_axes(patch_sizes: str, grids: Sequence[str]) -> dict[str, list[str]]:
    """What is swept: texts of values by config key.

    Args:
      patch_sizes: such as "2,4,8"; "4,[8,2]" has a size for each part of a split model.
      grids: such as "optimizer.learning_rate=1e-4,3e-4".

    Raises:
      UserError: a text is not of this form, a list is empty, a key comes twice.
    """
    axes = {"model.patch_size": _values("--patch-sizes", patch_sizes)}
    for grid in grids:
        key, equals, values = grid.partition("=")
        if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
            raise UserError(f"--grid is {grid!r}; expected GROUP.KEY=A,B such as optimizer.learning_rate=1e-4,3e-4")
        if key in axes:
            raise UserError(f"{key} is swept twice; give all its values at once")
        axes[key] = _values(f"--grid {key}", values)
    return axes


def make_points(spec: str, overrides: Sequence[str], axes: Mapping[str, Sequence[str]], workdir: Path) -> list[Point]:
    """All combinations of the axes' values; each is known to make a system.

    Args:
      spec, overrides: of the config that all have in common, as `load_config` takes them.
      axes: from `read_axes`.
      workdir: of the sweep.

    Raises:
      UserError: a point's config is wrong, or two points have the same name.
    """
    columns, points = _short_names(list(axes)), {}
    for texts in itertools.product(*axes.values()):
        settings = tuple(f"--config.{key}={text}" for key, text in zip(axes, texts, strict=True))
        values = dict(zip(columns, map(parse_value, texts), strict=True))
        name = ",".join(f"{column}={_word(value)}" for column, value in values.items())
        if name in points:
            raise UserError(f"the point {name} comes twice; give each value once")
        try:
            config = load_config(spec, [*overrides, *settings])
            num_params = count_params(make_system(config).shapes)
        except UserError as error:
            raise UserError(f"the point {name}: {error}") from error
        points[name] = Point(values, settings, config, num_params, workdir / name)
    return list(points.values())


def claim(workdir: Path, base: Config, axes: Mapping[str, Sequence[str]]) -> None:
    """Notes in a sweep's folder what its points have in common; further values of what is swept may be added later.

    Raises:
      UserError: the folder holds another sweep, or cannot be written to.
    """
    path, keys = workdir / _BASE, sorted(axes)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps({"keys": keys, "config": to_dict(base)}, indent=1) + "\n")
        noted = json.loads(path.read_text())
        old = read(Config, noted["config"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot keep a sweep in {workdir}: {error}; choose another --workdir") from error
    changes = differences(old, base)
    if noted["keys"] != keys:
        changes = [f"it sweeps {', '.join(noted['keys'])}"]
    elif (old.sample, old.eval) != (base.sample, base.eval):  # finished points would keep the old ones
        changes.append("config.sample or config.eval is another")
    if changes:
        raise UserError(f"{workdir} holds another sweep ({'; '.join(changes)}); choose another --workdir")


def _values(flag: str, text: str) -> list[str]:
    """The values of a list; commas inside brackets do not separate."""
    values = re.split(r",(?![^(\[]*[)\]])", text)
    if not all(value.strip() for value in values):
        raise UserError(f"{flag} is {text!r}; expected values joined by commas, such as 2,4,8")
    return [value.strip() for value in values]


def _short_names(keys: Sequence[str]) -> list[str]:
    """The last word of each key; the whole key where two end alike."""
    words = [key.rpartition(".")[2] for key in keys]
    return [key if words.count(word) > 1 else word for key, word in zip(keys, words, strict=True)]


def _word(value: Any) -> str:
    """A value as a part of a file name."""
    text = "-".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return re.sub(r"[^\w.+-]", "-", text)
