"""What the commands share that make one picture of another: the run, what it is told, the sampling loop with a bar."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
from jax.sharding import Mesh

from pdm_jax.cli.guiding import Guidance, num_classes, open_guidance
from pdm_jax.cli.progress import collected
from pdm_jax.cli.sampling_flags import BATCH_SIZE, SETTINGS
from pdm_jax.cli.telling import conditions
from pdm_jax.config import Config, MeshConfig
from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.edit import Known, make_edit, num_steps
from pdm_jax.pipelines.generate import choose_labels, generate, make_generate, tell
from pdm_jax.pipelines.layouts import Layout
from pdm_jax.pipelines.restore import Model, read_config, restore_model
from pdm_jax.pipelines.told import of_data
from pdm_jax.systems import System, make_system


@dataclasses.dataclass(frozen=True)
class Opened:
    """A run's weights, and what it is told besides the picture."""

    model: Model
    mesh: Mesh
    guidance: Guidance
    told: Mapping[str, np.ndarray]
    jumps: Mapping[str, int]  # of `make_edit`
    args: argparse.Namespace

    def make(
        self,
        layout: Layout,
        told: Mapping[str, np.ndarray],
        codes: np.ndarray | None = None,
        known: Known | None = None,
    ) -> np.ndarray:
        """The window (H, W, C) uint8 of a layout, told by the picture, with codes (1, D) where there are some."""
        system, config = self.model.system, self.model.config
        labels = self.args.labels if system.num_classes else "cycle"
        told = tell(system, labels, 1, codes) | self.told | told
        options = {"known": known, "guides": self.guidance.guides, **self.jumps}

        def batches(on_step: Callable[[], object] | None) -> Iterator[np.ndarray]:
            run = make_edit(system, config.sample, self.mesh, layout, on_step=on_step, **options)
            return generate(run, self.model.params, self.args.seed, 1, told, self.mesh, batch_size=1)

        (made,) = layout.cut(collected(batches, 1, num_steps(system, config.sample, **self.jumps)))
        return made


def read_run(args: argparse.Namespace) -> Config:
    """The config of the run, with the flags of sampling in it; raises `UserError` for flags of other commands."""
    if args.batch_size != BATCH_SIZE:
        raise UserError("--batch-size is for commands that make many images; this one makes one")
    if args.prior is not None:
        raise UserError("--prior is for whole images; a picture has the code that --code names")
    if not 0 <= args.seed < 2**32:
        raise UserError(f"--seed is {args.seed}; expected 0 to 2**32 - 1")
    config = read_config(args.workdir, args.step)
    if config.model.system == "code_prior":
        raise UserError(f"{args.workdir} is a prior of semantic codes; give the model that it is for")
    if args.max_patches is not None and config.model.system != "patch_dm":
        raise UserError(f"--max-patches is for models of patch_dm; {args.workdir} holds one of {config.model.system}")
    settings = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    return dataclasses.replace(config, sample=dataclasses.replace(config.sample, **settings))


def open_run(
    args: argparse.Namespace, config: Config, given: Collection[str], jumps: Mapping[str, int] | None = None
) -> Opened:
    """Restores the weights, once everything that does not fit has been refused.

    Args:
      config: of `read_run`, at the size of the canvas.
      given: names of what the model is told by the picture.
      jumps: of `make_edit`.
    """
    system, mesh = make_system(config), make_mesh(MeshConfig(space=args.space))
    guidance = open_guidance(args, system, mesh)
    make_generate(system, config.sample, make_mesh(MeshConfig()), guides=guidance.guides)
    num_steps(system, config.sample, **(jumps or {}))
    choose_labels(args.labels, 1, num_classes(system, guidance))
    told = _besides(args, config, system, given) | guidance.told(args.labels, 1)
    model = restore_model(args.workdir, system, config, mesh, weights=args.weights, step=args.step)
    return Opened(guidance.with_params(model), mesh, guidance, told, jumps or {}, args)


def _besides(args: argparse.Namespace, config: Config, system: System, given: Collection[str]) -> dict[str, np.ndarray]:
    """What the model is told besides the picture, which only flags can say."""
    wanted = [name for name in of_data(system) if name not in given]
    if not wanted and (args.prompt or args.told):
        raise UserError(f"--prompt and --told are for models told more than a picture; {args.workdir} holds none")
    missing = [name for name in wanted if not (name == "tokens" and args.prompt)]
    if missing and args.told is None:
        raise UserError(
            f"this model is told {' and '.join(missing)} besides the picture; give "
            + ("--prompt=TEXT" if missing == ["tokens"] else "--told=SOURCE, data whose first record has them")
        )
    return conditions(args, config, system, 1, given)
