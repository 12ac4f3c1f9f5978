"""`pdm train`: trains a config in a workdir, or goes on where the workdir left off."""

from __future__ import annotations

import argparse

from pdm_jax.cli.config_files import add_config_arguments, load_config


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "train",
        help="train, or go on with a run",
        description="Trains a config; an existing workdir is gone on with. "
        "With config.split, the parts of the model in turn, the noisiest first.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="folder of the run; made where it does not exist"
    )
    parser.add_argument("--half", metavar="PART", help="train one part of a split model alone: high or low")
    parser.add_argument("--init-from", metavar="DIR", help="start from the averaged weights of another workdir")
    parser.add_argument(
        "--force-config", action="store_true", help="go on although the config differs in what changes training"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains; returns the exit status."""
    import jax

    from pdm_jax.data import make_dataset
    from pdm_jax.training import train

    config = load_config(args.config, args.overrides)
    dataset = make_dataset(
        config.data, config.seed, process_index=jax.process_index(), process_count=jax.process_count()
    )
    train(config, args.workdir, dataset, part=args.half, init_from=args.init_from, force_config=args.force_config)
    return 0
