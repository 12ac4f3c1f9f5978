"""`pdm train`: trains a config in a workdir, or goes on where the workdir left off."""

from __future__ import annotations

import argparse
import re
import signal
from typing import TYPE_CHECKING, Any

from pdm_jax.cli.config_files import add_config_arguments, load_config
from pdm_jax.cli.running import add_running_arguments, start
from pdm_jax.cli.status import DONE, INTERRUPTED, PREEMPTED
from pdm_jax.errors import UserError

if TYPE_CHECKING:
    from pdm_jax.config import Config


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "train",
        help="train, or go on with a run",
        description="Trains a config; an existing workdir is gone on with. "
        "With config.split, the parts of the model in turn, the noisiest first. SIGTERM and Ctrl-C save first. "
        "Exit status: 0 done, 1 failed, 2 a mistake (a loss that is not finite, too), 75 stopped by SIGTERM, "
        "130 by Ctrl-C.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="folder of the run; made where it does not exist"
    )
    parser.add_argument("--half", metavar="PART", help="train one part of a split model alone: high or low")
    parser.add_argument(
        "--init-from", metavar="DIR", help="start from the averaged weights of another workdir, and its first stage"
    )
    parser.add_argument(
        "--force-config", action="store_true", help="go on although the config differs in what changes training"
    )
    parser.add_argument(
        "--profile", metavar="FIRST:LAST", help="trace these steps into profile/ in the workdir, for TensorBoard"
    )
    add_running_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains; returns the exit status."""
    start(args)
    profile = _window(args.profile)
    config = load_config(args.config, args.overrides)
    from pdm_jax.training.stages import stages_of

    *before, (config, workdir) = stages_of(config, args.workdir, args.init_from)
    for first_config, first_workdir in before:
        if (status := _train(first_config, first_workdir, force_config=args.force_config)) != DONE:
            return status
    return _train(
        config, workdir, part=args.half, init_from=args.init_from, force_config=args.force_config, profile=profile
    )


def _train(config: Config, workdir: str, **arguments: Any) -> int:
    """One run, with `arguments` of `train`; returns the exit status."""
    from pdm_jax.data import make_dataset
    from pdm_jax.parallel import host_share, make_mesh
    from pdm_jax.pipelines.codes import open_codes
    from pdm_jax.systems.conditions import task_inputs
    from pdm_jax.training import train
    from pdm_jax.training.interrupt import StopSignal
    from pdm_jax.training.stages import with_tokenizer

    config = with_tokenizer(config, workdir, arguments.get("init_from"))
    mesh, stop = make_mesh(config.mesh), StopSignal()
    if config.model.system == "code_prior":
        dataset = open_codes(config, mesh)
    else:
        share = host_share(mesh)
        dataset = make_dataset(
            config.data, config.seed, task_inputs(config), process_index=share.index, process_count=share.count
        )
    train(config, workdir, dataset, stop=stop, **arguments)
    return {None: DONE, signal.SIGTERM: PREEMPTED, signal.SIGINT: INTERRUPTED}[stop.obeyed]


def _window(text: str | None) -> tuple[int, int] | None:
    """The first and the last step of `FIRST:LAST`."""
    if text is None:
        return None
    if (match := re.fullmatch(r"(\d+):(\d+)", text)) is None:
        raise UserError(f"--profile is {text!r}; expected FIRST:LAST, such as 10:12")
    return int(match[1]), int(match[2])
