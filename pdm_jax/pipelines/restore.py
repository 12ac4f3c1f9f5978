"""A trained model out of its workdir, whole: one restore gives all networks of a split model."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from jax.sharding import Mesh

from pdm_jax.checkpoints import Checkpoints, open_workdir, parts_in
from pdm_jax.config import Config, read
from pdm_jax.errors import UserError
from pdm_jax.parallel import param_shardings, with_shardings
from pdm_jax.systems import System, parts_of
from pdm_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Model:
    """Weights and what they are of."""

    config: Config
    system: System
    params: Params  # as the system's, with its frozen groups
    steps: Mapping[str, int]  # of training, by part; "" of a model that is not split
    checksums: Mapping[str, int]  # of the arrays, by path: what tells these weights from others

    @property
    def step(self) -> str:
        """The steps as a text: `1000`, or `high 1000, low 500`."""
        return ", ".join(f"{part} {step}".strip() for part, step in self.steps.items())


@contextlib.contextmanager
def open_parts(workdir: str | Path):
    """The checkpoints of each part of a run's model by name, `""` of a model that is not split, noisiest first.

    Raises:
      UserError: there are none.
    """
    found = parts_in(open_workdir(workdir)) or [""]
    with contextlib.ExitStack() as stack:
        opened = {name: stack.enter_context(Checkpoints(workdir, part=name)) for name in found}
        order = [part.name for part in parts_of(read(Config, opened[found[0]].config()))]
        yield {name: opened[name] for name in sorted(found, key=lambda name: order.index(name) if name in order else 0)}


def read_config(workdir: str | Path, step: str | None = None) -> Config:
    """The config of a run, as its newest checkpoint has it, of the last part of a split model.

    Raises:
      UserError: the run has no checkpoint that can be read, or not this step.
    """
    with open_parts(workdir) as opened:
        checkpoints = list(opened.values())[-1]
        return read(Config, checkpoints.config(checkpoints.find(step)))


def restore_model(
    workdir: str | Path, system: System, config: Config, mesh: Mesh, *, weights: str = "ema", step: str | None = None
) -> Model:
    """Restores all networks of a run.

    Args:
      system, config: of the run (`read_config`).
      weights: "ema" or "params".
      step: a number, "best" or None for the newest; of a split model, each part's own.

    Raises:
      UserError: a part of a split model is missing, or a checkpoint is or cannot be read.
    """
    with open_parts(workdir) as opened:
        wanted = [part.name for part in parts_of(config)]
        _check_whole(workdir, list(opened), wanted)
        params, steps, checksums, frozen = {}, {}, {}, {}
        for name in wanted:
            shapes = system.shapes[name] if name else system.shapes
            # What is wanted of a group is compared with all of it, so nothing is wanted where nothing is needed.
            wanted_arrays = {weights: shapes} | ({"frozen": system.frozen} if system.frozen else {})
            template = with_shardings(wanted_arrays, param_shardings(mesh, wanted_arrays))
            checkpoints = opened[name]
            restored = checkpoints.restore(template, step=checkpoints.find(step), partial=True)
            params[name], steps[name], frozen = restored.state[weights], restored.step, restored.state.get("frozen", {})
            own = {path: value for path, value in restored.checksums.items() if path.split("/")[0] in wanted_arrays}
            checksums |= {"/".join(filter(None, [name, path])): value for path, value in own.items()}
    params = params if wanted != [""] else params[""]
    return Model(config, system, {**params, **frozen}, steps, checksums)


def _check_whole(workdir: str | Path, found: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing and wanted != [""]:
        raise UserError(
            f"{workdir} lacks the part {missing[0]} of its model; train it with: "
            f"pdm train --config=... --workdir={workdir} --half={missing[0]}"
        )
    if missing:
        raise UserError(f"{workdir} holds parts ({', '.join(found)}) of a model that its config does not split")
