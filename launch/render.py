"""From a few values to the scripts and manifests of a run on a cluster.

  python launch/render.py --values=launch/values.yaml --out=launch/out [--set KEY=VALUE ...] [--points=FILE]

Nothing is written unless everything is right. With --points, as `pdm sweep --print` prints them, each point is a run of
its own in OUT/1, OUT/2, ...; on SLURM all are one job array.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slices import find_slice
from values import Values, read_values

from pdm_jax.errors import UserError

_HERE = Path(__file__).parent
_TEMPLATES = {
    "tpu_vm": ("tpu_vm.sh", "setup_worker.sh"),
    "gke": ("xpk.sh", "jobset.yaml"),
    "slurm": ("train.sbatch",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Renders; returns the exit status: 0, or 2 after a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--values", required=True, type=Path, metavar="FILE", help="such as launch/values.yaml")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a folder that is new or empty")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="instead of the file's value")
    parser.add_argument("--points", type=Path, metavar="FILE", help="the runs of a sweep, from pdm sweep --print")
    args = parser.parse_args(argv)
    try:
        values = read_values(_read_yaml(args.values) | dict(map(_setting, args.set)))
        files = _render(values, None if args.points is None else _read_points(args.points))
        _write(args.out, files)
    except UserError as error:
        print(f"render: {error}", file=sys.stderr)
        return 2
    print("\n".join(str(args.out / name) for name in files))
    return 0


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name} is not installed; pip install 'pdm_jax[launch]'") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    yaml = _installed("yaml")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no values; expected lines of KEY: VALUE, as in launch/values.yaml")
    return found


def _setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as it would stand in the file."""
    yaml = _installed("yaml")
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set is {text!r}; expected KEY=VALUE")
    try:
        return key, yaml.safe_load(value) if value else ""
    except yaml.YAMLError as error:
        raise UserError(f"--set is {text!r}; {value!r} is no YAML") from error


def _read_points(path: Path) -> list[str]:
    """The shell commands of a sweep's points."""
    make_them = f"make them with pdm sweep --print > {path}"
    try:
        points = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the points {path}: {error}; {make_them}") from error
    if not points or not all(map(_is_point, points)):
        raise UserError(f"{path} holds no points; {make_them}")
    return points


def _is_point(line: str) -> bool:
    try:
        return shlex.split(line)[:2] == ["pdm", "train"]
    except ValueError:  # a quote that is not closed
        return False


def _render(values: Values, points: Sequence[str] | None) -> dict[str, str]:
    """The text of every file by its path in the output."""
    if values.launcher == "slurm":
        commands = points or [shlex.join(_train_command(values))]
        return _render_run(values, {"gpus": _gpus(values.accelerator), "commands": commands})
    slice_ = find_slice(values.accelerator, on_gke=values.launcher == "gke")
    if points is None:
        return _render_run(values, {"slice": slice_, "command": [*_train_command(values), "--multihost"]})
    files = {}
    for number, point in enumerate(points, start=1):
        command = shlex.split(point)
        if "&&" in command:
            raise UserError(f"point {number} evaluates as well; print the points with --workdir={values.workdir}")
        named = dataclasses.replace(values, name=f"{values.name}-{number}")
        run = _render_run(named, {"slice": slice_, "command": [*command, "--multihost"]})
        files |= {f"{number}/{name}": text for name, text in run.items()}
    return files


def _render_run(values: Values, facts: Mapping[str, Any]) -> dict[str, str]:
    jinja2 = _installed("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"quote": shlex.quote, "join_shell": shlex.join}
    bucket, _, prefix = values.data.removeprefix("gs://").strip("/").partition("/")
    facts = {**dataclasses.asdict(values), **facts, "bucket": bucket, "prefix": prefix}
    files = {name: environment.get_template(f"{name}.j2").render(facts) for name in _TEMPLATES[values.launcher]}
    if values.launcher == "tpu_vm":
        files["restart.sh"] = (_HERE / "restart.sh").read_text()
    return files


def _train_command(values: Values) -> list[str]:
    source = [f"--config.data.source={values.source}"] if values.source else []
    return ["pdm", "train", f"--config={values.config}", f"--workdir={values.workdir}", *source, *values.arguments]


def _gpus(accelerator: str) -> int:
    """The GPUs of a node, from a generic resource of SLURM such as gpu:8 or gpu:h100:8."""
    found = re.fullmatch(r"gpu(?::[\w-]+)?:([1-9]\d*)", accelerator)
    if found is None:
        raise UserError(f"accelerator is {accelerator}; on SLURM give the GPUs of a node, such as gpu:8 or gpu:h100:8")
    return int(found[1])


def _write(out: Path, files: Mapping[str, str]) -> None:
    """Writes all files, or none: they are made in a folder beside `out` that takes its name at the end."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} is there already; remove it, or choose another --out")
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        temporary.chmod(0o755)
        for name, text in files.items():
            path = temporary / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            if path.suffix == ".sh":
                path.chmod(0o755)
        temporary.replace(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; choose another --out") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
