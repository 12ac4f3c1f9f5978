"""What the commands share that make whole images, larger than the trained ones."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from pdm_jax.cli.comparing import beside, check_apart, check_picture, write_picture
from pdm_jax.cli.output import check_output, write_images
from pdm_jax.cli.progress import collected
from pdm_jax.cli.sampling import Sampling, open_sampling
from pdm_jax.config import Config
from pdm_jax.errors import UserError
from pdm_jax.ops.images import grid
from pdm_jax.pipelines.edit import make_edit, num_steps
from pdm_jax.pipelines.generate import generate
from pdm_jax.pipelines.layouts import Layout
from pdm_jax.pipelines.restore import read_config

_NUM = 4  # images, where no number is given


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
    begin, out, num = time.perf_counter(), Path(args.out), _NUM if args.num is None else args.num
    if num < 1:
        raise UserError(f"--num is {num}; expected at least 1")
    check_apart(args.out, args.compare)
    config = _patch_config(args)
    layout = arrange(config)
    sampling = open_sampling(args)
    check_output(out)
    check_picture("--compare", args.compare)
    large = _images(sampling, layout, num, args)
    small = fit(np.concatenate(list(sampling.images(num))), config) if args.compare else None
    if jax.process_index() == 0:
        write_images(out, large, sampling.labels(num))
        if small is not None:
            write_picture(Path(args.compare), grid(beside(small, large)))
        size, seconds = "x".join(map(str, layout.size)), time.perf_counter() - begin
        print(f"{out}: {num} images of {size} pixels of checkpoint {sampling.model.step}, {seconds:.1f} s")
    return 0


def _images(sampling: Sampling, layout: Layout, num: int, args: argparse.Namespace) -> np.ndarray:
    model, mesh, guides = sampling.model, sampling.mesh, sampling.guidance.guides
    told = sampling.told(num)

    def batches(on_step: Callable[[], object] | None) -> Iterator[np.ndarray]:
        run = make_edit(model.system, sampling.sampling, mesh, layout, guides=guides, on_step=on_step)
        return generate(run, model.params, args.seed, num, told, mesh, batch_size=args.batch_size)

    return collected(batches, num, num_steps(model.system, sampling.sampling) * -(-num // args.batch_size))


def _patch_config(args: argparse.Namespace) -> Config:
    """The config of a patch_dm model."""
    config = read_config(args.workdir, args.step)
    if config.model.system != "patch_dm" or config.latent.kind != "none":
        latents = "" if config.latent.kind == "none" else " of latents"
        raise UserError(
            f"{args.workdir} holds a model of the system {config.model.system!r}{latents}, which makes one size; this "
            "command needs one of patch_dm (pdm sample and pdm inpaint take others, pdm upscale PICTURE those of "
            "super-resolution)"
        )
    return config
