"""`pdm info`: what a workdir or a checkpoint holds."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

from pdm_jax.errors import UserError


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "info", help="what a workdir or checkpoint holds", description="Prints steps, sizes, config and last metrics."
    )
    parser.add_argument("path", metavar="WORKDIR|CHECKPOINT", help="a run's folder, or one step in its checkpoints/")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the report; returns the exit status."""
    from pdm_jax.checkpoints import locate
    from pdm_jax.config import to_dict
    from pdm_jax.networks import count_params
    from pdm_jax.pipelines.restore import open_parts, read_config
    from pdm_jax.systems import make_system

    workdir, part, only = locate(args.path)
    if not (workdir / "checkpoints").is_dir():
        raise UserError(
            f"{workdir} is not a workdir: it has no checkpoints/ folder; expected what pdm train --workdir made"
        )
    with open_parts(workdir) as opened:
        for name, checkpoints in opened.items():
            if part in ("", name):
                _print_part(name, checkpoints, only, workdir / name)
    config = read_config(workdir, None if only is None or part else str(only))
    system = make_system(config)
    print(f"system: {config.model.system}, {count_params(system.shapes):,} parameters")
    height, width, channels = system.space.picture
    classes = f", {system.num_classes} classes" if system.num_classes else ", unconditional"
    print(f"images: {height}x{width}x{channels}{classes}")
    print("config:")
    print(json.dumps(to_dict(config), indent=2))
    return 0


def _print_part(name: str, checkpoints: Any, only: int | None, folder: Any) -> None:
    """The steps of a run or of a part of its model, and its newest report."""
    steps = [only] if only is not None else checkpoints.steps()
    print(f"{name or folder}: {len(steps)} checkpoint{'s' * (len(steps) != 1)}")
    best = checkpoints.best()
    for step in steps:
        size = _size(checkpoints.directory / str(step))
        print(f"  step {step}: {size / 2**20:.1f} MiB" + (" (best)" if step == best else ""))
    if last := _last_metrics(folder / "metrics.jsonl"):
        print("  last report: " + ", ".join(f"{name} {value:.6g}" for name, value in last.items()))


def _size(folder: Path) -> int:
    """Bytes of all files in a folder; not by `**`, which cloud buckets do not allow."""
    return sum(_size(path) if path.is_dir() else path.stat().length for path in folder.iterdir())


def _last_metrics(path: Path) -> dict[str, float] | None:
    """The newest report that is whole; a killed run may have cut the last one short."""
    for line in reversed(path.read_text().splitlines() if path.exists() else []):
        with contextlib.suppress(json.JSONDecodeError):
            return json.loads(line)
    return None
