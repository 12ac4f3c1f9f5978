"""The flags of the commands that enlarge the canvas or keep a part of a picture."""

from __future__ import annotations

import argparse

from pdm_jax.cli.running import add_running_arguments
from pdm_jax.cli.sampling_flags import add_sampling_arguments
from pdm_jax.errors import UserError

SIDES = ("top", "bottom", "left", "right")


def add_larger_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what commands share that make whole images, larger than the trained ones."""
    parser.add_argument("--num", type=int, help="how many images (default: 4)")
    parser.add_argument("--out", default="samples.png", help="grid.png, archive.npz (ADM's layout) or a folder")
    _add_common_arguments(parser, "the same images at the trained size beside the result")


def add_picture_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what commands share that go on from a picture."""
    parser.add_argument("picture", metavar="IMAGE", help="of any size and kind; transparency is laid on white")
    parser.add_argument(
        "--out", default="result.png", help="a .png; known pixels are kept exactly (but grey, by models of grey images)"
    )
    parser.add_argument(
        "--code",
        help="what the picture is of: the number of a training image (models with a table of codes), image (read by "
        "the model's encoder from what is known of the picture, resized to the trained size) or none",
    )
    parser.add_argument(
        "--feather", type=int, default=0, metavar="PIXELS", help="known pixels beside a hole that are blended"
    )
    parser.add_argument(
        "--jumps", type=int, default=0, metavar="N", help="repeat each section of steps so often, to harmonise"
    )
    parser.add_argument("--jump-length", type=int, metavar="STEPS", help="of a section (default: 5)")
    _add_common_arguments(parser, "what is known beside the result")


def add_margins(parser: argparse.ArgumentParser, unit: str) -> None:
    """Adds one flag a side."""
    for side in SIDES:
        parser.add_argument(f"--{side}", type=int, default=0, metavar="N", help=f"{unit} to add (default: 0)")


def margins(args: argparse.Namespace) -> tuple[int, int, int, int]:
    """The margins that were asked for: top, bottom, left, right; raises `UserError` where there are none."""
    values = tuple(getattr(args, side) for side in SIDES)
    if min(values) < 0 or not any(values):
        flags = ", ".join(f"--{side}={value}" for side, value in zip(SIDES, values, strict=True))
        raise UserError(f"nothing can be added by {flags}; give at least one side a number above 0, none below")
    return values


def _add_common_arguments(parser: argparse.ArgumentParser, compared: str) -> None:
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of a run")
    parser.add_argument("--compare", metavar="FILE", help=f"a .png with {compared}")
    add_sampling_arguments(parser)
    add_running_arguments(parser)
