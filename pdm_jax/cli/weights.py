"""`pdm import` and `pdm export`: weights from official files into a workdir, and from a workdir into one file."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdm_jax.cli.config_files import add_config_arguments, load_config
from pdm_jax.errors import UserError

if TYPE_CHECKING:
    from pdm_jax.config import CodeConfig, Config
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
        "of code_prior for the latent network; last and averaged weights are both kept.",
    )
    add_config_arguments(command)
    command.add_argument("file", metavar="FILE", type=Path, help="an .h5, .pt, .ckpt or safetensors file")
    command.add_argument("--format", required=True, choices=_FORMATS, help="the program that wrote it")
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
    from pdm_jax.training.optimizer import make_optimizer
    from pdm_jax.training.state import plan_state

    form, config = _FORMATS[args.format], load_config(args.config, args.overrides)
    _check_model(args.format, config)
    network = {**form.settings(), **config.model.network}
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, network=network))
    part = _choose_part(parts_of(config), args.half)
    codes, weights = form.read(args.file, part.config)
    config, own = (dataclasses.replace(each, codes=codes) for each in (config, part.config))
    with Checkpoints(args.workdir, config.checkpoint, part=part.name) as checkpoints:
        if checkpoints.steps():
            raise UserError(f"{checkpoints.directory} already holds checkpoints; choose a new --workdir")
        plan = plan_state(make_system(own), make_optimizer(own.optimizer), config.ema, make_mesh(MeshConfig()))
        state = plan.init(jax.random.key(config.seed)).as_dict()
        checkpoints.save(0, state | weights, {}, to_dict(config))
    what = f"part {part.name} of {args.workdir}" if part.name else args.workdir
    print(f"{what}: {count_params(weights['ema']):,} parameters of {args.file} as step 0")
    return 0


@dataclasses.dataclass(frozen=True)
class _Format:
    """How a program's files are imported."""

    backbones: Mapping[str, str | None]  # of each system that its files are for; None is any
    # (file, config) -> the config's codes as the file has them, and {"params", "ema"}
    read: Callable[[Path, Config], tuple[CodeConfig, dict[str, Any]]]
    settings: Callable[[], dict[str, Any]] = dict  # of the network, which its files need


def read_pdm(file: Path, config: Config, form: str) -> tuple[CodeConfig, dict[str, Any]]:
    """The config's codes as they are, and the weights as `params` and `ema` of the system pdm."""
    from pdm_jax.interop import adm, pdm_files, state_dicts
    from pdm_jax.systems.pdm import make_network

    definition = make_network(config.model, config.data.channels)
    read = {
        "pdm-tf": pdm_files.read_tf,
        "pdm-torch": pdm_files.read_torch,
        "adm": lambda file, definition: adm.load(state_dicts.read_tensors(file), definition),
    }[form]
    weights = {"network": read(file, definition)}
    return config.codes, {"params": weights, "ema": weights}


def read_patch_dm(file: Path, config: Config) -> tuple[CodeConfig, dict[str, Any]]:
    """The config's codes, with as many as the file's table has, and the weights as `params` and `ema` of its system."""
    from pdm_jax.interop import patch_dm, state_dicts
    from pdm_jax.systems import code_prior
    from pdm_jax.systems.patch_dm import make_encoder, make_network

    copies, codes = patch_dm.copies(state_dicts.read_tensors(file)), config.codes
    if config.model.system == "code_prior":
        latent = code_prior.make_network(config)
        return codes, {kind: {"network": patch_dm.load(copy, latent, "latent")} for kind, copy in copies.items()}
    definitions = {"unet": make_network(config.model, codes, config.data.channels)}
    if codes.kind == "encoder":
        definitions["encoder"] = make_encoder(codes, config.model.dtype, config.data.channels)
    weights = {
        kind: {"network": {name: patch_dm.load(copy, each, name) for name, each in definitions.items()}}
        for kind, copy in copies.items()
    }
    if codes.kind == "table":
        for kind, copy in copies.items():
            table = patch_dm.load_table(copy, codes.num, codes.dim)
            weights[kind]["codes"] = {"table": table}
            codes = dataclasses.replace(codes, num=len(table))
    return codes, weights


def _norm_eps() -> dict[str, Any]:
    from pdm_jax.interop.pdm import TORCH_NORM_EPS

    return {"norm_eps": TORCH_NORM_EPS}


_FORMATS = {
    "pdm-tf": _Format({"pdm": "pdm_unet"}, functools.partial(read_pdm, form="pdm-tf")),
    "pdm-torch": _Format({"pdm": "pdm_unet"}, functools.partial(read_pdm, form="pdm-torch"), _norm_eps),
    "adm": _Format({"pdm": "adm_unet"}, functools.partial(read_pdm, form="adm"), lambda: {"has_null": False}),
    "patch-dm": _Format({"patch_dm": "patch_unet", "code_prior": None}, read_patch_dm),
}


def _check_model(name: str, config: Config) -> None:
    """Raises a `UserError` unless files of this format are for models such as the config's."""
    system, backbone = config.model.system, config.model.backbone
    backbones = _FORMATS[name].backbones
    if backbones.get(system, "") not in (backbone, None):
        wanted = " or ".join(f"{own!r}{f' with the backbone {b!r}' if b else ''}" for own, b in backbones.items())
        raise UserError(f"--format={name} is for the system {wanted}; the config's are {system!r} and {backbone!r}")


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
