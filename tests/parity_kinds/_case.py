"""One reference case: a folder with `meta.json`, often `io.npz`, sometimes `weights.safetensors`."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import pkgutil
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import ModuleType

import numpy as np

from pdm_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Case:
    """A reference case, given to its kind's `run`. A kind sees the inputs and only the names of what it must give."""

    folder: Path
    root: Path  # the folder that names are relative to
    kind: ModuleType  # the module of `parity_kinds` that runs it

    @cached_property
    def meta(self) -> dict:
        """The content of `meta.json`."""
        try:
            return _Named(f"{self.folder}/meta.json", json.loads((self.folder / "meta.json").read_text()))
        except json.JSONDecodeError as error:
            raise UserError(f"{self.folder}/meta.json is no JSON: {error}") from error

    @cached_property
    def io(self) -> Mapping[str, np.ndarray]:
        """The input arrays, as they are stored."""
        inputs = {name: array for name, array in self._arrays.items() if self._is_input(name)}
        return _Named(f"the inputs in {self.folder}/io.npz", inputs)

    @cached_property
    def reference(self) -> Mapping[str, np.ndarray]:
        """What a kind must reproduce: the arrays that are no inputs, and the numbers it finds in the meta."""
        arrays = {name: array for name, array in self._arrays.items() if not self._is_input(name)}
        numbers = self.kind.expected(self.meta) if hasattr(self.kind, "expected") else {}
        return arrays | {name: np.asarray(number) for name, number in numbers.items()}

    @cached_property
    def wanted(self) -> Mapping[str, tuple[int, ...]]:
        """The names and shapes of what the kind must give."""
        return {name: array.shape for name, array in self.reference.items()}

    @cached_property
    def weights(self) -> Mapping[str, np.ndarray]:
        """The weights as float32: float16 is cast, int8 codes are multiplied by `weight_scale`."""
        from safetensors.numpy import load_file

        scale = self.meta.get("weight_scale", {})
        stored = load_file(_existing(self.folder / "weights.safetensors", "the case has no weights"))
        return {name: array.astype(np.float32) * np.float32(scale.get(name, 1)) for name, array in stored.items()}

    def sister(self, name: str) -> Case:
        """Another case below the same root, for example `pdm_tf/uncond_p2`."""
        _existing(self.root / name / "meta.json", f"{self.folder.name} needs the case {name}; give its place by --root")
        return Case(self.root / name, self.root, kind_named(name))

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        with np.load(_existing(self.folder / "io.npz", "the case has no arrays")) as arrays:
            return dict(arrays)

    def _is_input(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.kind.INPUTS)


class _Named(dict):
    """A dict whose missing keys are the mistake of who made the case."""

    def __init__(self, place: str, items: Mapping):
        super().__init__(items)
        self._place = place

    def __missing__(self, key: str):
        raise UserError(f"{self._place} has no {key!r}, which this kind of case needs")


def open_case(folder: str | Path, root: str | Path | None = None, kind: str | None = None) -> Case:
    """The case of a folder.

    Args:
      root: the reference root; by default the nearest folder above below which the path begins with a kind.
      kind: the kind, or a path that begins with it; by default that path.

    Raises:
      UserError: no case there, or its kind is not known.
    """
    folder = Path(os.path.abspath(folder))
    _existing(folder / "meta.json", "give the folder of one case")
    if root is None:
        above = [parent for parent in folder.parents if kind_of(folder.relative_to(parent))]
        if not above and kind is None:
            raise UserError(f"{folder} lies below no folder named after a kind; give --kind ({', '.join(kinds())})")
        root = above[0] if above else folder.parent
    root = Path(os.path.abspath(root))
    if kind is None and root not in folder.parents:
        raise UserError(f"{folder} is not below the root {root}; give another --root, or --kind")
    return Case(folder, root, kind_named(kind or str(folder.relative_to(root))))


def kinds() -> list[str]:
    """The kinds that can be run: the modules of this folder."""
    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(module.name for module in modules if not module.name.startswith("_"))


def kind_of(name: str | Path) -> str | None:
    """The kind that a case's path begins with, or None: `ldm_unet` also runs `ldm_unet_concat`."""
    first = Path(name).parts[0]
    return max((kind for kind in kinds() if f"{first}_".startswith(f"{kind}_")), key=len, default=None)


def kind_named(name: str) -> ModuleType:
    """The module of the kind that a case's path begins with."""
    kind = kind_of(name)
    if kind is None:
        raise UserError(f"the kind {Path(name).parts[0]!r} cannot be run; the kinds are {', '.join(kinds())}")
    return importlib.import_module(f"tests.parity_kinds.{kind}")


def _existing(path: Path, hint: str) -> Path:
    if not path.is_file():
        raise UserError(f"there is no {path}; {hint}")
    return path
