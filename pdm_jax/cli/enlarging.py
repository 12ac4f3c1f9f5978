"""A small picture made large by latent diffusion that is told of it (LDM section 4.4)."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from pdm_jax.cli.comparing import beside, check_pictures, write_picture
from pdm_jax.cli.one_picture import open_run, read_run
from pdm_jax.data.pictures import read_picture
from pdm_jax.errors import UserError
from pdm_jax.pipelines.mirrored import mirror, mirrored


def enlarge_picture(args: argparse.Namespace) -> int:
    """Makes the picture `args.picture`, of any size, as many times as large as the model does; returns the exit status.

    Raises:
      UserError: picture, flags and model do not fit together.
    """
    begin = time.perf_counter()
    config = read_run(args)
    factor = config.condition.factor
    if "superres" not in config.condition.kinds:
        raise UserError(
            f"{args.workdir} holds a model that is told of no small picture; give one with 'superres' in "
            "config.condition.kinds, or leave the picture out for whole images by patch_dm"
        )
    if args.num is not None or args.factor not in (None, factor):
        raise UserError(f"a picture is made once, {factor} times as large as this model does it; drop --num, --factor")
    picture = read_picture(args.picture, config.data.channels).pixels
    config, layout = mirrored(config, tuple(factor * side for side in picture.shape[:2]), args.picture)
    check_pictures(args.out, args.compare)
    opened = open_run(args, config, {"low"})
    low = mirror(picture, tuple(side // factor for side in layout.size))
    made = opened.make(layout, {"low": low[None]})
    if jax.process_index() == 0:
        write_picture(Path(args.out), made)
        if args.compare:
            write_picture(Path(args.compare), beside(_bicubic(picture, factor), made))
        sizes = ["x".join(map(str, image.shape[:2])) for image in (picture, made)]
        seconds = time.perf_counter() - begin
        print(f"{args.out}: {sizes[1]} pixels of {sizes[0]} by checkpoint {opened.model.step}, {seconds:.1f} s")
    return 0


def _bicubic(picture: np.ndarray, factor: int) -> np.ndarray:
    """A picture (h, w, C) uint8 made larger without a model."""
    height, width, channels = picture.shape
    image = Image.fromarray(picture[..., 0] if channels == 1 else picture)
    large = image.resize((factor * width, factor * height), Image.Resampling.BICUBIC)
    return np.asarray(large).reshape(factor * height, factor * width, channels)
