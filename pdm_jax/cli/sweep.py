"""`pdm sweep`: trains and evaluates a config at several patch sizes and settings, and compares them."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pdm_jax.cli.config_files import add_config_arguments, load_config
from pdm_jax.errors import UserError

if TYPE_CHECKING:
    from pdm_jax.cli.sweep_points import Point
    from pdm_jax.cli.sweep_runs import Runs

_METRICS = "fid,precision,recall"


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "sweep",
        help="compare patch sizes and settings by quality and speed",
        description="Trains and evaluates a config at every combination of patch sizes and settings, one after the "
        "other, each in a folder of its own in --workdir, and writes results.csv, results.md and quality.png there. "
        "The same command goes on after a kill; further values may be added. How images are sampled is config.sample.",
    )
    add_config_arguments(parser)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of the sweep; made where there is none")
    parser.add_argument("--patch-sizes", required=True, metavar="P,P", help="such as 2,4,8; [8,2] is one for each part")
    parser.add_argument(
        "--grid", nargs="+", action="extend", default=[], metavar="KEY=A,B", help="optimizer.learning_rate=1e-4,3e-4"
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--print",
        action="store_true",
        help="print a shell command a point, for a scheduler, and end; into a bucket a point is only trained",
    )
    only.add_argument("--report", action="store_true", help="make the table and the plot of what is there, and end")
    evaluation = parser.add_argument_group("evaluation, as of pdm eval")
    evaluation.add_argument("--num", type=int, help="images a point (default: config.eval.num)")
    evaluation.add_argument("--metrics", default=_METRICS, help=f"the plot shows the first (default: {_METRICS})")
    evaluation.add_argument("--features", default="local", help="local, inception:FILE or vgg16:FILE (default: local)")
    evaluation.add_argument("--steps", help="of sampling (default: config.sample.steps)")
    evaluation.add_argument("--batch-size", type=int, default=64, help="images sampled at once (default: 64)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs, prints or reports a sweep; returns the exit status."""
    import jax
    from etils import epath

    from pdm_jax.checkpoints.failures import disk_errors
    from pdm_jax.cli.sweep_points import claim, make_points, read_axes
    from pdm_jax.cli.sweep_runs import Runs

    jax.config.update("jax_platforms", "cpu")  # accelerators are left to the processes that train
    in_bucket = "://" in args.workdir
    if in_bucket and not args.print:
        raise UserError(
            f"--workdir is {args.workdir}; a sweep keeps logs and tables in a folder of a disk. Run what --print "
            "prints, copy the bucket to a disk, and give that folder"
        )
    workdir = epath.Path(args.workdir) if in_bucket else Path(args.workdir).expanduser()
    axes = read_axes(args.patch_sizes, args.grid)
    points = make_points(args.config, args.overrides, axes, workdir)
    _check_evaluation(args, points)
    runs = Runs([f"--config={args.config}", *args.overrides], _evaluation(args), workdir / "cache")
    if in_bucket:
        print("\n".join(shlex.join(["pdm", *runs.commands(point)["train"]]) for point in points))
        return 0
    if args.report and not workdir.is_dir():
        raise UserError(f"there is no sweep in {workdir}; run it without --report")
    claim(workdir, load_config(args.config, args.overrides), axes)
    if args.print:
        print("\n".join(map(runs.shell, points)))
        return 0
    with disk_errors(workdir):
        failed = [] if args.report else _run_all(runs, points)
        _report(workdir, points, args.metrics.split(",")[0])
    return 1 if failed else 0


def _evaluation(args: argparse.Namespace) -> list[str]:
    """The arguments of `pdm eval`."""
    given = {"num": args.num, "metrics": args.metrics, "features": args.features, "steps": args.steps}
    given["batch-size"] = args.batch_size
    return [f"--{name}={value}" for name, value in given.items() if value is not None]


def _check_evaluation(args: argparse.Namespace, points: Sequence[Point]) -> None:
    """Refuses before any training what would end the evaluation after it."""
    from pdm_jax.diffusion import timesteps
    from pdm_jax.evaluation.demand import DISTRIBUTION, Demand
    from pdm_jax.evaluation.judges import open_judges

    demand = Demand(tuple(args.metrics.split(",")))
    if wrong := [name for name in demand.metrics if name not in DISTRIBUTION]:
        raise UserError(f"{wrong[0]} is no metric of a sweep; those are {', '.join(DISTRIBUTION)}")
    if args.features != "local":
        judges = open_judges(
            demand, features=args.features, resize="clean", perceptual="", clip=None, make_local=lambda: None
        )
        demand.outputs(judges.features)
    elif "sfid" in demand.metrics:
        raise UserError("sfid needs Inception's features; drop it from --metrics or give --features=inception:FILE")
    if args.batch_size < 1:
        raise UserError(f"--batch-size is {args.batch_size}; expected at least 1")
    for point in points:
        num = point.config.eval.num if args.num is None else args.num
        demand.check_num(num, None)
        if num <= args.batch_size:
            raise UserError(
                f"{num} images are one batch, and the first only compiles; for a speed give --num above "
                f"--batch-size={args.batch_size}, or a smaller --batch-size"
            )
        if args.steps is not None:
            timesteps(args.steps, point.config.diffusion.num_steps)


def _run_all(runs: Runs, points: Sequence[Point]) -> list[str]:
    """Runs what is not done; returns the names of the points that failed."""
    from tqdm import tqdm

    from pdm_jax.cli.sweep_runs import Children

    failed = []
    with Children() as children, tqdm(total=len(points), unit="point", dynamic_ncols=True) as bar:
        for point in points:
            try:
                error = None if runs.is_done(point) else runs.run(point, children, bar.set_description_str)
            except KeyboardInterrupt:
                bar.write(f"stopped at {point.name}; the same command goes on from there", file=sys.stderr)
                raise
            if error is not None:
                failed.append(point.name)
                bar.write(f"{point.name} failed: {error} (see its logs)", file=sys.stderr)
            bar.update()
    return failed


def _report(workdir: Path, points: Sequence[Point], metric: str) -> None:
    """Writes the table and the plot, and prints the table."""
    from pdm_jax.cli.sweep_plot import plot, quality_column
    from pdm_jax.cli.sweep_report import make_rows, markdown, write_tables

    rows = make_rows(points)
    write_tables(workdir, rows)
    print(markdown(rows), end="")
    written, quality = [f"{workdir}/results.csv", "results.md"], quality_column(rows, metric)
    if importlib.util.find_spec("matplotlib") is None:
        print("no plot: matplotlib is missing; install it with: pip install matplotlib")
    elif quality is not None and plot(workdir / "quality.png", rows, quality):
        written.append("quality.png")
    print(", ".join(written))
