"""`pdm import` and `pdm export`: weights from official files into a workdir, and from a workdir into one file."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from pdm_jax.cli.config_files import add_config_arguments, load_config
from pdm_jax.errors import UserError


def add_parsers(subparsers) -> None:
    """Registers both commands."""
    command = subparsers.add_parser(
        "import",
        help="start a workdir from official weights",
        description="Makes a workdir with the weights of an official file as its step 0, to sample from, to train on "
        "or to start other runs from (pdm train --init-from). The config must be that of the file. With pdm-torch "
        "the norms get that program's epsilon; for its files of weights that TensorFlow trained, add "
        "--config.model.network.norm_eps=1e-3.",
    )
    add_config_arguments(command)
    command.add_argument("file", metavar="FILE", type=Path, help="ema_weights.h5, weights.pt or safetensors")
    command.add_argument("--format", required=True, choices=("pdm-tf", "pdm-torch"), help="the program that wrote it")
    command.add_argument("--workdir", required=True, metavar="DIR", help="folder to make; holds no checkpoints yet")
    command.set_defaults(run=run_import)

    command = subparsers.add_parser(
        "export",
        help="write a run's weights to one file",
        description="Writes the weights of a checkpoint under dotted names (network.conv_in.kernel) with the run's "
        "config in the file's metadata.",
    )
    command.add_argument("out", metavar="OUT", type=Path, help="the file to write")
    command.add_argument("--workdir", required=True, metavar="DIR", help="folder of a run")
    command.add_argument("--format", required=True, choices=("safetensors",))
    command.add_argument("--weights", choices=("ema", "params"), default="ema", help="averaged or last (default: ema)")
    command.add_argument("--step", help="which checkpoint: a number, or best (default: the newest)")
    command.add_argument("--force", action="store_true", help="replace OUT if it exists")
    command.set_defaults(run=run_export)


def run_import(args: argparse.Namespace) -> int:
    """Imports; returns the exit status."""
    import jax

    from pdm_jax.checkpoints import Checkpoints
    from pdm_jax.config import MeshConfig, to_dict
    from pdm_jax.interop import pdm_files
    from pdm_jax.interop.pdm import TORCH_NORM_EPS
    from pdm_jax.networks import count_params
    from pdm_jax.parallel import make_mesh
    from pdm_jax.systems import make_system
    from pdm_jax.systems.pdm import make_network
    from pdm_jax.training.optimizer import make_optimizer
    from pdm_jax.training.state import plan_state

    config = load_config(args.config, args.overrides)
    if config.model.system != "pdm":
        raise UserError(f"--format={args.format} is for the system 'pdm', the config's is {config.model.system!r}")
    if args.format == "pdm-torch":
        network = {"norm_eps": TORCH_NORM_EPS, **config.model.network}
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, network=network))
    system, definition = make_system(config), make_network(config.model, config.data.channels)
    read = pdm_files.read_tf if args.format == "pdm-tf" else pdm_files.read_torch
    (group,) = system.shapes
    weights = {group: read(args.file, definition)}
    with Checkpoints(args.workdir, config.checkpoint) as checkpoints:
        if checkpoints.steps():
            raise UserError(f"{args.workdir} already holds checkpoints; choose a new --workdir")
        plan = plan_state(system, make_optimizer(config.optimizer), config.ema, make_mesh(MeshConfig()))
        state = plan.init(jax.random.key(config.seed)).as_dict()
        checkpoints.save(0, state | {"params": weights, "ema": weights}, {}, to_dict(config))
    print(f"{args.workdir}: {count_params(weights):,} parameters of {args.file} as step 0")
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Exports; returns the exit status."""
    from pdm_jax.config import MeshConfig, to_dict
    from pdm_jax.interop import safetensors_files
    from pdm_jax.parallel import make_mesh
    from pdm_jax.pipelines.restore import read_config, restore_model
    from pdm_jax.systems import make_system

    if args.out.exists() and not args.force:
        raise UserError(f"{args.out} exists; choose another name, or --force to replace it")
    config = read_config(args.workdir, args.step)
    system, mesh = make_system(config), make_mesh(MeshConfig())
    model = restore_model(args.workdir, system, config, mesh, weights=args.weights, step=args.step)
    tensors = _flatten(model.params)
    metadata = {"config": json.dumps(to_dict(config)), "weights": args.weights, "step": model.step}
    safetensors_files.write(args.out, tensors, metadata)
    print(f"{args.out}: {len(tensors)} tensors, {args.weights} of step {model.step}")
    return 0


def _flatten(tree: Mapping) -> dict:
    """A nested dict's arrays, on the host, under the dotted names of their places."""
    import jax
    import numpy as np

    return {".".join(str(key.key) for key in path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}
