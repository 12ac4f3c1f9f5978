"""Config files and `--config.x.y=value`: the one place where an ml_collections config becomes ours."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pdm_jax.config import Config, read
from pdm_jax.errors import UserError


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--config` and what may be changed of it."""
    parser.add_argument(
        "--config", required=True, metavar="FILE[:VARIANT]", help="a file with get_config(variant), see configs/"
    )
    parser.epilog = "--config.GROUP.KEY=VALUE changes one setting of the config; repeat it for more."
    parser.set_defaults(overrides=[])


def separate_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command line into what argparse understands and the `--config.x.y=value` arguments.

    Raises:
      UserError: an argument that begins like a setting and is not one.
    """
    overrides = [argument for argument in argv if argument.startswith("--config.")]
    for override in overrides:
        _split(override)
    return [argument for argument in argv if argument not in overrides], overrides


def load_config(spec: str, overrides: Sequence[str] = ()) -> Config:
    """Reads `FILE[:VARIANT]` and applies `--config.x.y=value` settings.

    Raises:
      UserError: no such file or variant, a file without get_config, a setting that is not one.
    """
    values = _run_file(spec)
    for override in overrides:
        path, value = _split(override)
        _set(values, path, value, override)
    return read(Config, values)


def parse_value(text: str) -> Any:
    """A setting's text as a Python value: a number, None, True, False, a list or tuple in brackets, or a string."""
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    if "," in text and text[:1] not in "([{'\"":
        return text  # "90,60,60,20,20" names steps
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _run_file(spec: str) -> dict[str, Any]:
    """The plain mapping that a config file makes."""
    name, _, variant = spec.rpartition(":") if re.search(r"\.py:[^/\\]*$", spec) else (spec, "", "")
    path = Path(name)
    if not path.is_file():
        raise UserError(f"there is no config file {name}; see the files in configs/")
    if path.suffix != ".py":
        raise UserError(f"{name} is no config file; expected a .py file like configs/quickstart.py")
    module_spec = importlib.util.spec_from_file_location(f"pdm_config_{path.stem}", path)
    module = importlib.util.module_from_spec(module_spec)
    with _failures_named(name):
        module_spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{name} has no get_config(); see configs/quickstart.py for what a config file is")
    _check_variant(name, variant, getattr(module, "VARIANTS", ()))
    with _failures_named(name):
        config = module.get_config(variant) if variant else module.get_config()
    values = config.to_dict() if hasattr(config, "to_dict") else config
    if not isinstance(values, dict):
        raise UserError(f"{name}: get_config() gives {type(config).__name__}; expected a ConfigDict or a dict")
    return values


@contextlib.contextmanager
def _failures_named(name: str) -> Iterator[None]:
    """Turns whatever a config file raises into one line that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name} does not run: {type(error).__name__}: {reason}") from error


def _check_variant(name: str, variant: str, known: Sequence[str]) -> None:
    """A variant is one of the file's VARIANTS, or several of them joined by commas."""
    unknown = [word for word in variant.split(",") if variant and word not in known]
    if unknown:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise UserError(f"{name} has no variant {unknown[0]!r}; {has}")


def _split(override: str) -> tuple[list[str], Any]:
    """The keys and the value of `--config.x.y=value`."""
    match = re.fullmatch(r"--config((?:\.\w+)+)=(.*)", override, re.DOTALL)
    if match is None:
        raise UserError(f"{override!r} is not understood; expected --config.GROUP.KEY=VALUE")
    return match[1][1:].split("."), parse_value(match[2])


def _set(values: dict[str, Any], path: list[str], value: Any, override: str) -> None:
    for key in path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise UserError(f"{override!r}: {key} is a setting, not a group of settings")
    values[path[-1]] = value
