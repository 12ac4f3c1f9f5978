"""`pdm sample`: images from a trained or imported model."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from pdm_jax.cli.running import add_running_arguments, start
from pdm_jax.cli.sampling_flags import add_sampling_arguments
from pdm_jax.cli.sizes import image_size


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "sample",
        help="make images from a trained model",
        description="Makes images. What is not given is taken from the run's config.sample.",
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of a run")
    parser.add_argument("--num", type=int, default=64, help="how many images (default: 64)")
    parser.add_argument("--out", default="samples.png", help="grid.png, archive.npz (ADM's layout) or a folder")
    parser.add_argument(
        "--size", type=image_size, metavar="HxW", help="latent diffusion: size of images (default: as trained)"
    )
    parser.add_argument(
        "--compare", metavar="FILE", help="latent diffusion: a grid.png of the images beside what they were told"
    )
    add_sampling_arguments(parser)
    add_running_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Samples; returns the exit status."""
    start(args)
    import jax
    import numpy as np
    from tqdm import tqdm

    from pdm_jax.cli.output import check_output, write_images
    from pdm_jax.cli.sampling import open_sampling
    from pdm_jax.cli.showing import beside_told, check_shown
    from pdm_jax.errors import UserError

    if args.num < 1:
        raise UserError(f"--num is {args.num}; expected at least 1")
    sampling, out = open_sampling(args), Path(args.out)
    check_output(out)
    if args.compare:
        check_shown(sampling.model.system.told)
        check_output(Path(args.compare))
    begin, images, told = time.perf_counter(), [], sampling.told(args.num)
    with tqdm(total=args.num, unit="image", dynamic_ncols=True, disable=jax.process_index() != 0) as bar:
        for batch in sampling.images(args.num, told=told):
            images.append(batch)
            bar.update(len(batch))
    if jax.process_index() == 0:
        images = np.concatenate(images)
        write_images(out, images, sampling.labels(args.num))
        if args.compare:
            source = args.told or sampling.config.data.source
            pairs = beside_told(told, images, sampling.config, source)
            write_images(Path(args.compare), pairs, None)
        seconds = time.perf_counter() - begin
        print(
            f"{out}: {args.num} images of checkpoint {sampling.model.step}, "
            f"{sampling.num_steps} {sampling.sampling.sampler} steps, {seconds:.1f} s"
        )
    return 0
