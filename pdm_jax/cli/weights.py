"""`pdm import` and `pdm export`: weights from official files into a workdir, and from a workdir into one file."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdm_jax.cli.config_files import add_config_arguments, load_config
from pdm_jax.errors import UserError

if TYPE_CHECKING:
    from pdm_jax.systems import Part


def add_parsers(subparsers) -> None:
    """Registers both commands."""
    command = subparsers.add_parser(
        "import",
        help="start a workdir from official weights",
        description="Makes a workdir with the weights of an official file as its step 0, to sample from, to train on "
        "or to start other runs from (pdm train --init-from). The config must be that of the file. With pdm-torch "
        "the norms get that program's epsilon; for its files of weights that TensorFlow trained, add "
        "--config.model.network.norm_eps=1e-3. adm is guided-diffusion, whose networks have no null label.",
    )
    add_config_arguments(command)
    command.add_argument("file", metavar="FILE", type=Path, help="an .h5, .pt or safetensors file")
    command.add_argument(
        "--format", required=True, choices=("pdm-tf", "pdm-torch", "adm"), help="the program that wrote it"
    )
    command.add_argument("--workdir", required=True, metavar="DIR", help="folder to make; holds no checkpoints yet")
    command.add_argument("--half", metavar="PART", help="which part of a split model the file has: high or low")
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
    from pdm_jax.networks import count_params
    from pdm_jax.parallel import make_mesh
    from pdm_jax.systems import make_system, parts_of
    from pdm_jax.systems.pdm import make_network
    from pdm_jax.training.optimizer import make_optimizer
    from pdm_jax.training.state import plan_state

    config = load_config(args.config, args.overrides)
    backbone, settings, read = _format(args.format)
    if config.model.system != "pdm" or config.model.backbone != backbone:
        raise UserError(
            f"--format={args.format} is for the system 'pdm' with the backbone {backbone!r}; the config's are "
            f"{config.model.system!r} and {config.model.backbone!r}"
        )
    network = {**settings, **config.model.network}
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, network=network))
    part = _choose_part(parts_of(config), args.half)
    system, definition = make_system(part.config), make_network(part.config.model, config.data.channels)
    (group,) = system.shapes
    weights = {group: read(args.file, definition)}
    with Checkpoints(args.workdir, config.checkpoint, part=part.name) as checkpoints:
        if checkpoints.steps():
            raise UserError(f"{checkpoints.directory} already holds checkpoints; choose a new --workdir")
        plan = plan_state(system, make_optimizer(part.config.optimizer), config.ema, make_mesh(MeshConfig()))
        state = plan.init(jax.random.key(config.seed)).as_dict()
        checkpoints.save(0, state | {"params": weights, "ema": weights}, {}, to_dict(config))
    what = f"part {part.name} of {args.workdir}" if part.name else args.workdir
    print(f"{what}: {count_params(weights):,} parameters of {args.file} as step 0")
    return 0


def _format(name: str) -> tuple[str, dict[str, Any], Callable]:
    """A program's network, the settings of it that its files need, and the reader of its files."""
    from pdm_jax.interop import adm, pdm_files, state_dicts
    from pdm_jax.interop.pdm import TORCH_NORM_EPS

    return {
        "pdm-tf": ("pdm_unet", {}, pdm_files.read_tf),
        "pdm-torch": ("pdm_unet", {"norm_eps": TORCH_NORM_EPS}, pdm_files.read_torch),
        "adm": ("adm_unet", {"has_null": False}, lambda file, net: adm.load(state_dicts.read_tensors(file), net)),
    }[name]


def _choose_part(parts: Sequence[Part], name: str | None) -> Part:
    """The part whose weights a file has; the config's only one if it is not split."""
    names = [part.name for part in parts if part.name]
    if (name or "") not in [part.name for part in parts]:
        raise UserError(
            f"the config splits its model into {', '.join(names)}; say with --half which of them the file has"
            if names
            else "--half is for a config with a split; this one has none"
        )
    return next(part for part in parts if part.name == (name or ""))


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
