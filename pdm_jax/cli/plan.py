"""`pdm plan`: what a config costs on TPUs that one does not have, from the programs compiled for them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pdm_jax.cli.config_files import add_config_arguments, load_config
from pdm_jax.errors import UserError
from pdm_jax.files import write_whole


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "plan",
        help="memory, work and time on TPUs that are not here",
        description="Compiles the training step for TPUs with their own compiler, on any computer, and says whether it "
        "fits, what it does and how fast it can be. Needs pdm_jax[tpu]. Minutes and up to 11 GiB at full size; answers "
        "are kept in $PDM_CACHE or ~/.cache/pdm_jax.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--topology",
        default="v2-8",
        metavar="NAME,...",
        help="slices as Cloud TPU names them, like v2-8,v5e-256; all is one of each generation (default: v2-8)",
    )
    parser.add_argument("--sample", action="store_true", help="plan sampling, of the whole model, instead of training")
    parser.add_argument("--batch-size", type=int, metavar="N", help="images sampled at once (default: 64)")
    parser.add_argument("--half", metavar="PART", help="one part of a split model alone: high or low")
    parser.add_argument("--quick", action="store_true", help="estimate from one and two blocks a level")
    parser.add_argument(
        "--no-largest-batch", action="store_true", help="do not look for the largest batch: a third of the time"
    )
    parser.add_argument("--json", metavar="FILE", help="also write all numbers there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the table; returns the exit status."""
    from pdm_jax.planning.plan import plan
    from pdm_jax.planning.slices import find_slices
    from pdm_jax.planning.table import as_json, table

    _check(args)
    slices, config = find_slices(args.topology), load_config(args.config, args.overrides)
    reports = plan(
        config,
        slices,
        sample=(args.batch_size or 64) if args.sample else None,
        part=args.half,
        quick=args.quick,
        find_largest=not args.no_largest_batch,
    )
    print(table(reports))
    if args.json:
        _write(Path(args.json), json.dumps(as_json(reports), indent=2) + "\n")
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.batch_size is not None and not args.sample:
        raise UserError("--batch-size is of --sample; in training set --config.data.batch_size=N")
    if args.batch_size is not None and args.batch_size < 1:
        raise UserError(f"--batch-size is {args.batch_size}; expected at least 1")
    if args.half and args.sample:
        raise UserError("--half is of training; sampling crosses all parts of a model")
    if args.json and not Path(args.json).parent.is_dir():
        raise UserError(f"there is no folder {Path(args.json).parent} for --json; make it first")


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another --json") from error
