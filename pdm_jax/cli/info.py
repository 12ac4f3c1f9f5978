"""`pdm info`: what a workdir or a checkpoint holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

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
    from pdm_jax.checkpoints import Checkpoints
    from pdm_jax.config import Config, read, to_dict
    from pdm_jax.networks import count_params
    from pdm_jax.systems import make_system

    workdir, only = _locate(Path(args.path))
    with Checkpoints(workdir) as checkpoints:
        steps = [only] if only is not None else checkpoints.steps()
        config = read(Config, checkpoints.config(only))
    system = make_system(config)
    height, width, channels = system.image_shape
    print(f"{workdir}: {len(steps)} checkpoint{'s' * (len(steps) != 1)}")
    for step in steps:
        size = sum(f.stat().st_size for f in (workdir / "checkpoints" / str(step)).rglob("*") if f.is_file())
        print(f"  step {step}: {size / 2**20:.1f} MiB")
    print(f"system: {config.model.system}, {count_params(system.shapes):,} parameters")
    classes = f", {system.num_classes} classes" if system.num_classes else ", unconditional"
    print(f"images: {height}x{width}x{channels}{classes}")
    if last := _last_metrics(workdir / "metrics.jsonl"):
        print("last report: " + ", ".join(f"{name} {value:.6g}" for name, value in last.items()))
    print("config:")
    print(json.dumps(to_dict(config), indent=2))
    return 0


def _locate(path: Path) -> tuple[Path, int | None]:
    """The workdir, and the step where one checkpoint is named."""
    if path.name.isdecimal() and path.parent.name == "checkpoints":
        if not path.is_dir():
            raise UserError(f"there is no checkpoint {path}")
        return path.parent.parent, int(path.name)
    path = path.parent if path.name == "checkpoints" else path
    if not (path / "checkpoints").is_dir():
        raise UserError(
            f"{path} is not a workdir: it has no checkpoints/ folder; expected what pdm train --workdir made"
        )
    return path, None


def _last_metrics(path: Path) -> dict[str, float] | None:
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1]) if lines else None
