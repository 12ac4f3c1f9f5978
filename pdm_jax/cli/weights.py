"""`pdm import` and `pdm export`: weights from official files into a workdir, and from a workdir into one file."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdm_jax.cli.config_files import add_config_arguments, load_config
from pdm_jax.cli.weight_files import FORMATS
from pdm_jax.errors import UserError

if TYPE_CHECKING:
    from pdm_jax.config import Config
    from pdm_jax.systems import Part


def add_parsers(subparsers) -> None:
    """Registers both commands."""
    command = subparsers.add_parser(
        "import",
        help="start a workdir from official weights",
        description="Makes a workdir with the weights of an official file as its step 0, to sample from, to train on "
        "or to start other runs from (pdm train --init-from). The config must be that of the file. With pdm-torch "
        "the norms get that program's epsilon; for its files of weights that TensorFlow trained, add "
        "--config.model.network.norm_eps=1e-3. adm is guided-diffusion, whose networks have no null label. A file of "
        "patch-dm is imported twice: with a config of the system patch_dm for the U-Net and its codes, and with one "
        "of code_prior for the latent network; last and averaged weights are both kept. ldm is latent-diffusion: a "
        "whole model with its first stage, or with a config of the system autoencoder a first stage alone; of a model "
        "that reads text, the tokeniser comes from config.condition.tokenizer.",
    )
    add_config_arguments(command)
    command.add_argument("file", metavar="FILE", type=Path, help="an .h5, .pt, .ckpt or safetensors file")
    command.add_argument("--format", required=True, choices=FORMATS, help="the program that wrote it")
    command.add_argument("--workdir", required=True, metavar="DIR", help="folder to make; holds no checkpoints yet")
    command.add_argument("--half", metavar="PART", help="which part of a split model the file has: high or low")
    command.set_defaults(run=run_import)

    command = subparsers.add_parser(
        "export",
        help="write a run's weights to one file",
        description="Writes the weights of a checkpoint under dotted names (network.conv_in.kernel) and what sampling "
        "reads besides (first_stage, scale, null_tokens). The run's config and, of a model that reads text, its "
        "tokeniser are in the file's metadata.",
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
    from pdm_jax.training.optimizer import make_optimizer
    from pdm_jax.training.stages import with_tokenizer
    from pdm_jax.training.state import plan_state

    form, config = FORMATS[args.format], load_config(args.config, args.overrides)
    form.check_model(args.format, config)
    network = {**form.settings(), **config.model.network}
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, network=network))
    part = _choose_part(parts_of(config), args.half)
    own, weights = form.read(args.file, part.config)
    config = dataclasses.replace(config, codes=own.codes, latent=own.latent)
    plan = plan_state(make_system(own), make_optimizer(own.optimizer), config.ema, make_mesh(MeshConfig()))
    with Checkpoints(args.workdir, config.checkpoint, part=part.name) as checkpoints:
        if checkpoints.steps():
            raise UserError(f"{checkpoints.directory} already holds checkpoints; choose a new --workdir")
        config = with_tokenizer(config, args.workdir)
        state = plan.init(jax.random.key(config.seed)).as_dict()
        checkpoints.save(0, _merged(state, weights), {}, to_dict(config))
    what = f"part {part.name} of {args.workdir}" if part.name else args.workdir
    print(f"{what}: {count_params(weights['ema']):,} parameters of {args.file} as step 0")
    return 0


def _merged(initial: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a run with a file's weights; groups that the file has not stay as they begin."""
    begun = {**initial, "ema": initial["ema"] or initial["params"]}  # no averages: a copy on the host is kept instead
    return {**initial, **{kind: {**begun[kind], **groups} for kind, groups in weights.items()}}


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
    metadata |= _tokenizer(config, args.workdir)
    safetensors_files.write(args.out, tensors, metadata)
    print(f"{args.out}: {len(tensors)} tensors, {args.weights} of step {model.step}")
    return 0


def _tokenizer(config: Config, workdir: str) -> dict[str, str]:
    """The tokeniser of a run as the text of its file; {} of a model that reads no text."""
    from etils import epath

    from pdm_jax.pipelines.told import with_kept_tokenizer

    if "text" not in config.condition.kinds:
        return {}
    kept = epath.Path(with_kept_tokenizer(config, workdir).condition.tokenizer)
    if not kept.exists():
        raise UserError(f"the tokeniser {kept} is gone; put the run's tokenizer.json back into its workdir")
    return {"tokenizer": kept.read_text()}


def _flatten(tree: Mapping) -> dict:
    """A nested dict's arrays, on the host, under the dotted names of their places."""
    import jax
    import numpy as np

    return {".".join(str(key.key) for key in path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}
