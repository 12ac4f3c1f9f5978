"""`pdm upscale`: whole images of several times the trained size, by patches between the trained positions."""

from __future__ import annotations

import argparse

from pdm_jax.cli.edit_flags import add_larger_arguments
from pdm_jax.cli.running import start
from pdm_jax.errors import UserError


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "upscale",
        help="make images of several times the trained size",
        description="Makes images of several times the size that a patch_dm model was trained on: more patches, at "
        "positions between the trained ones. They have the codes of the images that `pdm sample` makes with the same "
        "seed, and start from noise with the same coarse structure.",
    )
    parser.add_argument("--factor", type=int, default=2, help="times as many patches along each side (default: 2)")
    add_larger_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Makes the images; returns the exit status."""
    if args.factor < 2:
        raise UserError(f"--factor is {args.factor}; expected at least 2 (pdm sample makes the trained size)")
    start(args)
    from pdm_jax.cli.larger import make_larger
    from pdm_jax.pipelines.layouts import upscaled

    return make_larger(
        args,
        lambda config: upscaled(config.data.size, config.model.patch_size, args.factor),
        lambda images, config: images.repeat(args.factor, axis=1).repeat(args.factor, axis=2),
    )
