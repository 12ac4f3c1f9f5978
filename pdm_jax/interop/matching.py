"""Are the tensors of a file those of a network? The one place where a mismatch becomes an error."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from pdm_jax.errors import UserError

Shape = tuple[int, ...]
_LISTED = 24  # a file of another network differs everywhere; more names than this say nothing new


def match_names(tensors: Mapping[str, np.ndarray], wanted: Mapping[str, Shape]) -> None:
    """Checks tensors that go by name.

    Raises:
      UserError: lists every name that is missing, surplus or misshapen.
    """
    problems = [_missing(name, shape) for name, shape in wanted.items() if name not in tensors]
    problems += [_surplus(name, tensor.shape) for name, tensor in tensors.items() if name not in wanted]
    problems += [
        _misshapen(name, tensors[name].shape, shape)
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]
    _refuse(problems)


def match_positions(tensors: Sequence[tuple[str, np.ndarray]], wanted: Sequence[tuple[str, Shape]]) -> None:
    """Checks tensors that go by position, whatever their names.

    A tensor too many or too few shifts all that follow. The two lists of shapes are therefore aligned first,
    so that the error names the one tensor and not the hundred behind it.

    Raises:
      UserError: lists what is missing, surplus or misshapen.
    """
    got_shapes, wanted_shapes = [tensor.shape for _, tensor in tensors], [shape for _, shape in wanted]
    if got_shapes == wanted_shapes:
        return
    problems = []
    matcher = difflib.SequenceMatcher(None, got_shapes, wanted_shapes, autojunk=False)
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        pairs = min(i_end - i, j_end - j)
        problems += [
            _misshapen(f"{tensors[i + n][0]} (here {wanted[j + n][0]})", got_shapes[i + n], wanted_shapes[j + n])
            for n in range(pairs)
        ]
        problems += [_surplus(tensors[n][0], got_shapes[n]) for n in range(i + pairs, i_end)]
        problems += [_missing(*wanted[n]) for n in range(j + pairs, j_end)]
    _refuse(problems)


def _missing(name: str, wanted: Shape) -> str:
    return f"{name} is missing (wanted {wanted})"


def _surplus(name: str, got: Shape) -> str:
    return f"{name} is surplus (got {got})"


def _misshapen(name: str, got: Shape, wanted: Shape) -> str:
    return f"{name} is misshapen (got {got}, wanted {wanted})"


def _refuse(problems: list[str]) -> None:
    if not problems:
        return
    listed = "; ".join(problems[:_LISTED])
    rest = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
    raise UserError(
        f"the file does not hold the weights of this network ({len(problems)} differ): {listed}{rest}. "
        "Check that the config is the one that the file was trained with"
    )
