"""The flags of sampling and the run they apply to, for every command that makes images from a workdir."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pdm_jax.config import Config, MeshConfig, SampleConfig, read
from pdm_jax.errors import UserError

_SETTINGS = ("sampler", "steps", "eta", "guidance", "clip", "last_alpha")
_DEFAULTS = {"labels": "cycle", "seed": 0, "weights": "ema", "step": None, **dict.fromkeys(_SETTINGS)}


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what changes generated images; what is not given is taken from the run's config.sample."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--labels", help="'cycle' (round the classes) or numbers like 0,1,7")
    group.add_argument("--seed", type=int)
    group.add_argument("--sampler", help="ancestral, ancestral-small, ancestral-large or ddim")
    group.add_argument("--steps", help="a count, sections 90,60,60,20,20, or ddim50, uniform50, quad50")
    group.add_argument("--eta", type=float, help="noise of ddim, 0 to 1")
    group.add_argument("--guidance", type=float, help="w in uncond + w (cond - uncond); 1 is none")
    group.add_argument("--clip", help="of x0 at each step: none, static or dynamic")
    group.add_argument("--last-alpha", help="where the last step goes: one (a clean image) or first")
    group.add_argument("--weights", choices=("ema", "params"), help="averaged or last (default: ema)")
    group.add_argument("--step", help="which checkpoint: a number, or best (default: the newest)")
    group.add_argument("--batch-size", type=int, default=64, help="images computed at once (default: 64)")
    parser.set_defaults(**_DEFAULTS)


def refuse_sampling_arguments(args: argparse.Namespace) -> None:
    """Raises a `UserError` if a flag of sampling was given where nothing is sampled."""
    for name, default in _DEFAULTS.items():
        if getattr(args, name) != default:
            raise UserError(f"--{name.replace('_', '-')} is of sampling and needs --workdir")


def digest(facts: Mapping[str, Any]) -> str:
    """Eight hex digits that name plain JSON by its content."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """A run's weights and how images are made of them."""

    config: Config
    sampling: SampleConfig
    step: int
    num_classes: int
    num_steps: int  # of the sampler
    about: dict[str, Any]  # what image i depends on besides i, as plain JSON
    _run: Any  # the jitted sampling loop
    _params: Any
    _args: argparse.Namespace
    _mesh: Any

    def labels(self, num: int) -> Any:
        """The labels [num] that were asked for; None where there are no classes."""
        from pdm_jax.pipelines.generate import choose_labels

        return choose_labels(self._args.labels, num, self.num_classes)

    def images(self, num: int, first: int = 0) -> Iterator[Any]:
        """Images `first` to num - 1 in batches (b, H, W, C) uint8."""
        from pdm_jax.pipelines.generate import generate

        return generate(
            self._run,
            self._params,
            self._args.seed,
            num,
            self.labels(num),
            self._mesh,
            batch_size=self._args.batch_size,
            first=first,
        )


def open_sampling(args: argparse.Namespace) -> Sampling:
    """Restores the weights that the flags name and makes the sampling loop.

    Raises:
      UserError: a flag is out of range or does not fit the model; there is no such checkpoint.
    """
    from pdm_jax.checkpoints import Checkpoints
    from pdm_jax.diffusion import timesteps
    from pdm_jax.parallel import make_mesh, param_shardings, with_shardings
    from pdm_jax.pipelines.generate import choose_labels, make_generate
    from pdm_jax.systems import make_system

    if args.batch_size < 1 or not 0 <= args.seed < 2**32:
        raise UserError("--batch-size must be at least 1, and --seed from 0 to 2**32 - 1")
    with Checkpoints(args.workdir) as checkpoints:
        step = checkpoints.find(args.step)
        config = read(Config, checkpoints.config(step))
        system, mesh = make_system(config), make_mesh(MeshConfig())
        settings = {name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None}
        sampling = dataclasses.replace(config.sample, **settings)
        run = make_generate(system, sampling, mesh)
        choose_labels(args.labels, 1, system.num_classes)
        shapes = with_shardings(system.shapes, param_shardings(mesh, system.shapes))
        restored = checkpoints.restore({args.weights: shapes}, step=step, partial=True)
    return Sampling(
        config=config,
        sampling=sampling,
        step=restored.step,
        num_classes=system.num_classes,
        num_steps=len(timesteps(sampling.steps, system.process.num_steps)),
        about=_about(args, config, sampling, restored),
        _run=run,
        _params=restored.state[args.weights],
        _args=args,
        _mesh=mesh,
    )


def _about(args: argparse.Namespace, config: Config, sampling: SampleConfig, restored: Any) -> dict[str, Any]:
    sums = {name: value for name, value in restored.checksums.items() if name.split("/")[0] == args.weights}
    return {
        "step": restored.step,
        "weights": args.weights,
        "checksums": sums,
        "labels": args.labels,
        "seed": args.seed,
        "sample": dataclasses.asdict(sampling),
        "model": dataclasses.asdict(config.model),
        "diffusion": dataclasses.asdict(config.diffusion),
    }
