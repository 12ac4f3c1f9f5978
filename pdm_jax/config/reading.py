"""Config groups from plain nested mappings and back, strictly.

An unknown or missing key, or a value of a wrong type or out of range, is a `UserError` that names it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pdm_jax.errors import UserError


def read(cls: type, mapping: Mapping[str, Any], path: str = "config") -> Any:
    """Reads a config group, a dataclass, from a nested mapping; `path` names the place in errors.

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
        name = f"{path}.{field.name}"
        if field.name in mapping:
            values[field.name] = convert(mapping[field.name], hints[field.name], name)
            _check_range(values[field.name], field.metadata, name)
        elif field.default is dataclasses.MISSING:
            raise UserError(f"{name} is missing; set it in the config file")
    return cls(**values)


def to_dict(config: Any) -> dict[str, Any]:
    """The plain nested mapping that `read` would turn into `config`."""
    return dataclasses.asdict(config)


def differences(old: Any, new: Any) -> list[str]:
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


def convert(value: Any, hint: Any, path: str) -> Any:
    """Checks `value` against a type annotation; an int is taken for a float or a string, a list for a tuple.

    Args:
      hint: a group, a plain type, `Sequence[...]`, `Mapping[...]`, or several of them joined by `|`.
      path: the place of the value, for the message.

    Raises:
      UserError: the value is of another type.
    """
    if dataclasses.is_dataclass(hint):
        return read(hint, value, path)
    if isinstance(hint, types.UnionType):
        for option in hint.__args__:
            with contextlib.suppress(UserError):
                return convert(value, option, path)
        raise _wrong_type(value, hint, path)
    origin = typing.get_origin(hint)
    if origin is Mapping and isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if origin is Sequence and isinstance(value, (list, tuple)):
        return tuple(convert(item, hint.__args__[0], path) for item in value)
    if isinstance(value, bool) or origin is not None:
        if hint is bool:
            return value
        raise _wrong_type(value, hint, path)
    if isinstance(value, int) and hint in (float, str):
        return hint(value)
    if not isinstance(value, hint):
        raise _wrong_type(value, hint, path)
    return value


def _wrong_type(value: Any, hint: Any, path: str) -> UserError:
    names = {"NoneType": "None"}
    options = hint.__args__ if isinstance(hint, types.UnionType) else (hint,)
    words = []
    for option in options:
        if typing.get_origin(option) is Sequence:
            words.append(f"a list of {option.__args__[0].__name__}")
        elif typing.get_origin(option) is Mapping:
            words.append("a group of keys")
        else:
            words.append(names.get(option.__name__, option.__name__))
    return UserError(f"{path} is {value!r}; expected {' or '.join(words)}")


def _check_range(value: Any, metadata: Mapping[str, Any], path: str) -> None:
    least, most = metadata.get("least"), metadata.get("most")
    numbers = value if isinstance(value, tuple) else () if value is None else (value,)
    if all((least is None or number >= least) and (most is None or number <= most) for number in numbers):
        return
    raise UserError(
        f"{path} is {value}; expected " + (f"{least} to {most}" if most is not None else f"at least {least}")
    )


def _plain(value: Any) -> Any:
    """Nested values as dicts and tuples, so that configs compare equal after a round trip through JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(_plain(item) for item in value) if isinstance(value, (list, tuple)) else value
