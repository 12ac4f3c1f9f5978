"""`pdm inpaint`: a part of a picture is made anew."""

from __future__ import annotations

import argparse

from pdm_jax.cli.edit_flags import add_picture_arguments
from pdm_jax.cli.running import start
from pdm_jax.errors import UserError


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "inpaint",
        help="make a part of a picture anew",
        description="Fills a part of a picture; the rest is kept exactly. Models of latent diffusion (those trained to "
        "inpaint are told of the hole) and of patch_dm take any size; others need the picture to fit into the size "
        "they were trained on. By default there is no code, as in Patch-DM's paper.",
    )
    parser.add_argument("--mask", metavar="FILE", help="white is filled (default: what is transparent in the picture)")
    add_picture_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Makes the picture; returns the exit status."""
    start(args)
    import numpy as np

    from pdm_jax.cli.editing import edit_picture
    from pdm_jax.data.pictures import Picture, check_hole, read_mask

    def find_hole(picture: Picture) -> np.ndarray:
        if args.mask is not None:
            return read_mask(args.mask, picture.pixels.shape[:2])
        if picture.transparent is None:
            raise UserError(f"{args.picture} has no transparency to fill; say what to fill by --mask=FILE")
        check_hole(picture.transparent, args.picture, "what is transparent is filled")
        return picture.transparent

    return edit_picture(args, find_hole, (0, 0, 0, 0), read_code=False)
