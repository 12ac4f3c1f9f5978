"""`pdm data build SRC OUT` and `pdm data encode OUT`: images, or their latents, as one fast file."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterable
from pathlib import Path

from pdm_jax.cli.config_files import add_config_arguments, load_config
from pdm_jax.cli.sizes import image_size
from pdm_jax.data.record import FIELDS, Source
from pdm_jax.data.sources import open_source


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Registers `data` and its sub-commands."""
    data = subparsers.add_parser("data", help="prepare data sets")
    commands = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_build(commands)
    _add_encode(commands)


def _add_build(commands: argparse._SubParsersAction) -> None:
    build = commands.add_parser(
        "build",
        help="turn images into one ArrayRecord file",
        description="Writes the images of a source into one ArrayRecord file, encoded as they are without --size, with "
        "their classes, and with captions (a.txt beside a.jpg, or captions.jsonl), layouts (a.json, or layouts.jsonl) "
        "and class maps (maps/a.png in a folder beside the images') where there are some. Use it as "
        "--config.data.source=arrayrecord:OUT.",
    )
    build.add_argument("source", metavar="SRC", help="a folder, a zip, or any data source such as tfds:NAME")
    build.add_argument("--split", default="train", help="which part of a source that has parts (default: train)")
    build.add_argument(
        "--size",
        type=image_size,
        metavar="PIXELS|HEIGHTxWIDTH",
        help="shrink larger images so that they just cover this size (JPEG, quality 95), not again in training",
    )
    _add_out(build)
    build.set_defaults(run=_build)


def _add_encode(commands: argparse._SubParsersAction) -> None:
    encode = commands.add_parser(
        "encode",
        help="encode images once by the first stage of latent diffusion",
        description="Writes the latents of a config's data into one ArrayRecord file, of images and, with "
        "config.data.flip, of their mirror images, with all that belongs to them. The first stage is that of "
        "config.latent.first_stage. Train on it with --config.data.source=latents:OUT.",
    )
    add_config_arguments(encode)
    encode.add_argument(
        "--dtype", choices=("float16", "float32"), default="float16", help="of what is kept (default: float16)"
    )
    _add_out(encode)
    encode.set_defaults(run=_encode)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT.array_record", type=Path, help="the file to write")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def _build(args: argparse.Namespace) -> int:
    # grain takes a while to import, and only this needs it.
    from pdm_jax.data.build import build_array_record

    source = open_source(args.source, args.split, FIELDS)
    written, skipped = build_array_record(source, args.out, _bar(source, args.out), args.force, args.size)
    classes = f"{len(source.class_names)} classes" if source.class_names else "no classes"
    print(f"{args.out}: {written} images, {classes}, {skipped} skipped")
    return 0


def _encode(args: argparse.Namespace) -> int:
    config = load_config(args.config, args.overrides)
    from pdm_jax.data.encode import encode_source
    from pdm_jax.parallel import make_mesh
    from pdm_jax.pipelines.encode import open_encoder
    from pdm_jax.training.frozen import with_first_stage

    config = with_first_stage(config)
    source = open_source(config.data.source, config.data.split, FIELDS)
    encoder, first_stage = open_encoder(config, make_mesh(config.mesh))
    written, skipped = encode_source(
        source,
        config.data,
        encoder,
        first_stage,
        args.out,
        dtype=args.dtype,
        progress=_bar(source, args.out),
        force=args.force,
    )
    print(f"{args.out}: {written} images by the first stage {first_stage}, {skipped} skipped")
    return 0


def _bar(source: Source, out: Path) -> Callable[[Iterable], Iterable]:
    """A progress bar over the images of a source."""
    from tqdm import tqdm

    return functools.partial(tqdm, total=len(source), unit="image", desc=out.name)
