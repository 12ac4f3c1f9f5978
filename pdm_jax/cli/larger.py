"""What the commands share that make whole images, larger than the trained ones."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pdm_jax.cli.comparing import beside, check_picture, write_picture
from pdm_jax.cli.output import check_output, write_images
from pdm_jax.cli.sampling import open_sampling
from pdm_jax.config import Config
from pdm_jax.errors import UserError
from pdm_jax.ops.images import grid
from pdm_jax.pipelines.edit import make_edit
from pdm_jax.pipelines.generate import generate
from pdm_jax.pipelines.layouts import Layout
from pdm_jax.pipelines.restore import read_config


def make_larger(
    args: argparse.Namespace,
    arrange: Callable[[Config], Layout],
    fit: Callable[[np.ndarray, Config], np.ndarray],
) -> int:
    """Makes images on a larger canvas and writes them; returns the exit status.

    Args:
      args: of `edit_flags.add_larger_arguments`.
      arrange: gives the canvas for a config of patch_dm.
      fit: brings images of the trained size (B, h, w, C) uint8 to the canvas's, for comparison.

    Raises:
      UserError: the model is of another system, or flags do not fit.
    """
    begin, out = time.perf_counter(), Path(args.out)
    if args.num < 1:
        raise UserError(f"--num is {args.num}; expected at least 1")
    check_output(out)
    check_picture("--compare", args.compare)
    config = _patch_config(args)
    layout = arrange(config)
    sampling = open_sampling(args)
    model, told = sampling.model, sampling.told(args.num)
    run = make_edit(model.system, sampling.sampling, sampling.mesh, layout)
    batches = generate(run, model.params, args.seed, args.num, told, sampling.mesh, batch_size=args.batch_size)
    large = _collected(batches, args.num, "enlarged")
    write_images(out, large, sampling.labels(args.num))
    if args.compare:
        small = fit(_collected(sampling.images(args.num), args.num, "trained size"), config)
        write_picture(Path(args.compare), grid(beside(small, large)))
    seconds = time.perf_counter() - begin
    height, width = layout.size
    print(f"{out}: {args.num} images of {height}x{width} pixels of checkpoint {model.step}, {seconds:.1f} s")
    return 0


def _patch_config(args: argparse.Namespace) -> Config:
    """The config of a patch_dm model."""
    config = read_config(args.workdir, args.step)
    if config.model.system != "patch_dm":
        raise UserError(
            f"{args.workdir} holds a model of the system {config.model.system!r}, which makes one size; this command "
            "needs one of patch_dm (pdm sample and pdm inpaint take others, too)"
        )
    return config


def _collected(batches, num: int, name: str) -> np.ndarray:
    images = []
    with tqdm(total=num, desc=name, unit="image", dynamic_ncols=True) as bar:
        for batch in batches:
            images.append(batch)
            bar.update(len(batch))
    return np.concatenate(images)
