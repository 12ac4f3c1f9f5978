"""`pdm upscale`: a picture made larger, or whole images of more patches between the trained positions."""

from __future__ import annotations

import argparse

from pdm_jax.cli.edit_flags import add_larger_arguments
from pdm_jax.cli.running import start
from pdm_jax.errors import UserError

_FACTOR = 2


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "upscale",
        help="make a picture larger, or images of several times the trained size",
        description="Makes a picture of any size larger by latent diffusion that was trained for super-resolution. "
        "Without a picture, makes images of several times the size that a patch_dm model was trained on: more "
        "patches, at positions between the trained ones. They have the codes of the images that `pdm sample` makes "
        "with the same seed, and start from noise with the same coarse structure.",
    )
    parser.add_argument("picture", nargs="?", metavar="IMAGE", help="what is made larger, into a .png")
    parser.add_argument(
        "--factor", type=int, help="times as many patches along each side (default: 2; of a picture, the model's own)"
    )
    add_larger_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Makes the images; returns the exit status."""
    if args.picture is not None:
        start(args)
        from pdm_jax.cli.enlarging import enlarge_picture

        return enlarge_picture(args)
    factor = _FACTOR if args.factor is None else args.factor
    if factor < 2:
        raise UserError(f"--factor is {factor}; expected at least 2 (pdm sample makes the trained size)")
    start(args)
    from pdm_jax.cli.larger import make_larger
    from pdm_jax.pipelines.layouts import upscaled

    return make_larger(
        args,
        lambda config: upscaled(config.data.size, config.model.patch_size, factor),
        lambda images, config: images.repeat(factor, axis=1).repeat(factor, axis=2),
    )
