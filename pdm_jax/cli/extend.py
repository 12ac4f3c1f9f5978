"""`pdm extend`: whole images that reach beyond the trained ones, by patches without a position."""

from __future__ import annotations

import argparse

from pdm_jax.cli.edit_flags import add_larger_arguments, add_margins, margins
from pdm_jax.cli.running import start


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "extend",
        help="make images that reach beyond the trained size",
        description="Makes images with patches around those that a patch_dm model was trained on. Added patches are "
        "not told where they lie. The middle has the codes and the noise of the images that `pdm sample` makes with "
        "the same seed.",
    )
    add_margins(parser, "patches")
    add_larger_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Makes the images; returns the exit status."""
    sides = margins(args)
    start(args)
    import numpy as np

    from pdm_jax.cli.larger import make_larger
    from pdm_jax.config import Config
    from pdm_jax.pipelines.layouts import Layout, check_margins, extended

    def arrange(config: Config) -> Layout:
        check_margins(config)
        return extended(config.data.size, config.model.patch_size, sides)

    def framed(images: np.ndarray, config: Config) -> np.ndarray:
        top, bottom, left, right = (config.model.patch_size * side for side in sides)
        return np.pad(images, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=255)

    return make_larger(args, arrange, framed)
