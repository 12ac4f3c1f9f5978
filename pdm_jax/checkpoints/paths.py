"""Workdirs as paths, and where in them a checkpoint lies."""

from __future__ import annotations

from pathlib import Path

from etils import epath

from pdm_jax.errors import UserError


def open_workdir(name: str | Path) -> epath.Path:
    """A workdir's absolute path: `~` expanded, and cloud buckets (gs://...) as they are.

    Raises:
      UserError: the name is empty, or its kind of path needs a package that is not installed.
    """
    text = str(name)
    if not text.strip() or text == ".":
        raise UserError(f"the workdir is {text!r}; name a folder for the run")
    if "://" not in text:
        return epath.Path(text).expanduser().resolve()
    try:
        path = epath.Path(text)
        path.exists()
    except ImportError as error:
        raise UserError(f"{text} cannot be opened: {error}; install that package") from error
    return path


def locate(name: str | Path) -> tuple[epath.Path, int | None]:
    """The workdir of a path, and the step where the path is one of `workdir/checkpoints/`.

    Raises:
      UserError: there is no checkpoint of that name.
    """
    path = open_workdir(name)
    if path.name.isdecimal() and path.parent.name == "checkpoints":
        if not path.is_dir():
            raise UserError(f"there is no checkpoint {path}")
        return path.parent.parent, int(path.name)
    return (path.parent if path.name == "checkpoints" else path), None
