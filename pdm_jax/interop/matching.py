"""Are the tensors of a file those of a network? The one place where a mismatch becomes an error."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from pdm_jax.errors import UserError

Shape = tuple[int, ...]
_HINT = "Check that the config is the one that the file was trained with"
_LISTED = 8  # of each kind: a file of another network differs everywhere, and more names say nothing new


@dataclasses.dataclass
class _Differences:
    """What does not fit, as texts."""

    misshapen: list[str] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)
    surplus: list[str] = dataclasses.field(default_factory=list)

    def add(self, got: tuple[str, Shape] | None, wanted: tuple[str, Shape] | None) -> None:
        """Notes a tensor by what the file has and what the network wants in its place; None is nothing."""
        if got is None:
            self.missing.append(f"{wanted[0]} (wanted {wanted[1]})")
        elif wanted is None:
            self.surplus.append(f"{got[0]} (got {got[1]})")
        else:
            name = got[0] if got[0] == wanted[0] else f"{got[0]} as {wanted[0]}"
            self.misshapen.append(f"{name} (got {got[1]}, wanted {wanted[1]})")

    def refuse(self, hint: str) -> None:
        """Raises a `UserError` that lists everything, if there is anything, and ends in a hint."""
        kinds = {name: texts for name, texts in vars(self).items() if texts}
        if kinds:
            lists = "; ".join(f"{len(texts)} {name}: {_join(texts)}" for name, texts in kinds.items())
            raise UserError(f"the file does not hold the weights of this network: {lists}. {hint}")


def match_names(tensors: Mapping[str, np.ndarray], wanted: Mapping[str, Shape], hint: str = _HINT) -> None:
    """Checks tensors that go by name; `hint` says what to do about a mismatch.

    Raises:
      UserError: lists the names that are misshapen, missing or surplus.
    """
    differences = _Differences()
    for name in [*wanted, *(name for name in tensors if name not in wanted)]:
        got = tensors[name].shape if name in tensors else None
        if got != wanted.get(name):
            differences.add(None if got is None else (name, got), (name, wanted[name]) if name in wanted else None)
    differences.refuse(hint)


def match_positions(tensors: Sequence[tuple[str, np.ndarray]], wanted: Sequence[tuple[str, Shape]]) -> None:
    """Checks tensors that go by position, whatever their names.

    A tensor too many or too few shifts all that follow. The two lists of shapes are therefore aligned first,
    so that the error names the one tensor and not the hundred behind it.

    Raises:
      UserError: lists what is misshapen, missing or surplus.
    """
    got = [(name, tensor.shape) for name, tensor in tensors]
    got_shapes, wanted_shapes = [shape for _, shape in got], [shape for _, shape in wanted]
    if got_shapes == wanted_shapes:
        return
    differences = _Differences()
    matcher = difflib.SequenceMatcher(None, got_shapes, wanted_shapes, autojunk=False)
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        if kind != "equal":
            for pair in itertools.zip_longest(got[i:i_end], wanted[j:j_end]):
                differences.add(*pair)
    differences.refuse(_HINT)


def _join(texts: list[str]) -> str:
    more = f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more
