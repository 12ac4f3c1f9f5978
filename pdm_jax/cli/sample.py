"""`pdm sample`: images from a trained or imported model."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

_SETTINGS = ("sampler", "steps", "eta", "guidance", "clip", "last_alpha")


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
    parser.add_argument("--labels", default="cycle", help="'cycle' (round the classes) or numbers like 0,1,7")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sampler", help="ancestral, ancestral-small, ancestral-large or ddim")
    parser.add_argument("--steps", help="a count, sections 90,60,60,20,20, or ddim50, uniform50, quad50")
    parser.add_argument("--eta", type=float, help="noise of ddim, 0 to 1")
    parser.add_argument("--guidance", type=float, help="w in uncond + w (cond - uncond); 1 is none")
    parser.add_argument("--clip", help="of x0 at each step: none, static or dynamic")
    parser.add_argument("--last-alpha", help="where the last step goes: one (a clean image) or first")
    parser.add_argument("--weights", choices=("ema", "params"), default="ema", help="averaged or last (default: ema)")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    parser.add_argument("--batch-size", type=int, default=64, help="images made at once (default: 64)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Samples; returns the exit status."""
    import jax
    import numpy as np
    from tqdm import tqdm

    from pdm_jax.checkpoints import Checkpoints
    from pdm_jax.cli.output import check_output, write_images
    from pdm_jax.config import Config, MeshConfig, read
    from pdm_jax.diffusion import timesteps
    from pdm_jax.errors import UserError
    from pdm_jax.parallel import make_mesh, param_shardings, with_shardings
    from pdm_jax.pipelines.generate import choose_labels, generate, make_generate
    from pdm_jax.systems import make_system

    if args.num < 1 or args.batch_size < 1 or not 0 <= args.seed < 2**32:
        raise UserError("--num and --batch-size must be at least 1, and --seed from 0 to 2**32 - 1")
    out = Path(args.out)
    with Checkpoints(args.workdir) as checkpoints:
        config = read(Config, checkpoints.config(args.step))
        system, mesh = make_system(config), make_mesh(MeshConfig())
        settings = {name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None}
        sampling = dataclasses.replace(config.sample, **settings)
        make = make_generate(system, sampling, mesh)
        labels = choose_labels(args.labels, args.num, system.num_classes)
        check_output(out)
        shapes = with_shardings(system.shapes, param_shardings(mesh, system.shapes))
        restored = checkpoints.restore({args.weights: shapes}, step=args.step, partial=True)
    start, images = time.perf_counter(), []
    batches = generate(
        make, restored.state[args.weights], args.seed, args.num, labels, mesh, batch_size=args.batch_size
    )
    with tqdm(total=args.num, unit="image", dynamic_ncols=True) as bar:
        for batch in batches:
            images.append(batch)
            bar.update(len(batch))
    if jax.process_index() == 0:
        write_images(out, np.concatenate(images), labels)
        seconds, steps = time.perf_counter() - start, len(timesteps(sampling.steps, system.process.num_steps))
        print(
            f"{out}: {args.num} images of checkpoint {restored.step}, {steps} {sampling.sampler} steps, {seconds:.1f} s"
        )
    return 0
