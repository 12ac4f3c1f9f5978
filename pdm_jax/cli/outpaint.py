"""`pdm outpaint`: a picture goes on beyond its borders."""

from __future__ import annotations

import argparse

from pdm_jax.cli.edit_flags import add_margins, add_picture_arguments, margins
from pdm_jax.cli.running import start


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "outpaint",
        help="go on with a picture beyond its borders",
        description="Adds pixels around a picture, which itself is kept exactly. Models of latent diffusion and of "
        "patch_dm take any size; others need picture and margins to fit into the size they were trained on. By "
        "default the code is read from the picture where the model has an encoder; otherwise there is none.",
    )
    add_margins(parser, "pixels")
    add_picture_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Makes the picture; returns the exit status."""
    sides = margins(args)
    start(args)
    import numpy as np

    from pdm_jax.cli.editing import edit_picture

    return edit_picture(args, lambda picture: np.zeros(picture.pixels.shape[:2], bool), sides, read_code=True)
