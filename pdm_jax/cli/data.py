"""`pdm data build SRC OUT.array_record`: any source of images as one fast file."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from pdm_jax.cli.sizes import image_size
from pdm_jax.data.record import FIELDS
from pdm_jax.data.sources import open_source


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Registers `data` and its sub-commands."""
    data = subparsers.add_parser("data", help="prepare data sets")
    commands = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = commands.add_parser(
        "build",
        help="turn images into one ArrayRecord file",
        description="Writes the images of a source into one ArrayRecord file with their classes, captions, layouts and "
        "class maps, encoded as they are without --size. Use it as --config.data.source=arrayrecord:OUT.",
    )
    build.add_argument("source", metavar="SRC", help="a folder, a zip, or any data source such as tfds:NAME")
    build.add_argument("out", metavar="OUT.array_record", type=Path, help="the file to write")
    build.add_argument("--split", default="train", help="which part of a source that has parts (default: train)")
    build.add_argument(
        "--size",
        type=image_size,
        metavar="PIXELS|HEIGHTxWIDTH",
        help="shrink larger images so that they just cover this size (JPEG, quality 95), not again in training",
    )
    build.add_argument("--force", action="store_true", help="replace OUT if it exists")
    build.set_defaults(run=_build)


def _build(args: argparse.Namespace) -> int:
    # grain takes a while to import, and only this needs it.
    from tqdm import tqdm

    from pdm_jax.data.build import build_array_record

    source = open_source(args.source, args.split, FIELDS)
    progress = functools.partial(tqdm, total=len(source), unit="image", desc=args.out.name)
    written, skipped = build_array_record(source, args.out, progress, args.force, args.size)
    classes = f"{len(source.class_names)} classes" if source.class_names else "no classes"
    print(f"{args.out}: {written} images, {classes}, {skipped} skipped")
    return 0
