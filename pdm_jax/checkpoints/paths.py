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


def locate(name: str | Path) -> tuple[epath.Path, str, int | None]:
    """The workdir of a path, and the part and step where the path lies in `workdir/checkpoints/`.

    Raises:
      UserError: there is no checkpoint of that name.
    """
    path = open_workdir(name)
    parents = [path, *path.parents][:3]
    depth = next((i for i, parent in enumerate(parents) if parent.name == "checkpoints"), None)
    if depth is None:
        return path, "", None
    inside = [parent.name for parent in reversed(parents[:depth])]
    step = int(inside.pop()) if inside and inside[-1].isdecimal() else None
    if step is not None and not path.is_dir():
        raise UserError(f"there is no checkpoint {path}")
    return parents[depth].parent, "/".join(inside), step


def parts_in(workdir: epath.Path) -> list[str]:
    """The parts of a split model that have a folder of checkpoints in a workdir; [] of a model that is not split."""
    folder = workdir / "checkpoints"
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and _is_part(path)) if folder.is_dir() else []


def _is_part(path: epath.Path) -> bool:
    return not path.name[:1].isdecimal() and any(child.name.isdecimal() for child in path.iterdir())
