"""Where a run begins: at its newest sound checkpoint, at another run's weights, or from nothing."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import jax
import numpy as np

from pdm_jax.checkpoints import Checkpoints, locate
from pdm_jax.config import Config, EmaConfig, differences, read
from pdm_jax.errors import UserError
from pdm_jax.training.host_ema import HostEma
from pdm_jax.training.state import StatePlan, TrainState
from pdm_jax.types import Params

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Position:
    """A state to go on from."""

    step: int  # updates done
    state: TrainState
    host_ema: HostEma | None


def begin(
    config: Config,
    plan: StatePlan,
    checkpoints: Checkpoints,
    batches: Any,
    *,
    init_from: str | None = None,
    force_config: bool = False,
) -> Position:
    """Restores the run, its data included, or starts it; `batches` is moved to the right place.

    Raises:
      UserError: the workdir holds a run with another config, or nothing in it can be restored; `init_from` has no
        checkpoint of this network.
    """
    if checkpoints.steps():
        check_config(checkpoints, config, force=force_config)
        return _resume(config, plan, checkpoints, batches, force=force_config)
    state = plan.init(jax.random.key(config.seed))
    if init_from is not None:
        weights = load_weights(init_from, plan.shapes.params)
        ema = jax.tree.map(jax.numpy.copy, weights) if config.ema.place == "device" else {}
        state = dataclasses.replace(state, params=weights, ema=ema)
        logger.info("starting from the weights of %s", init_from)
    return Position(0, state, _host_ema(config.ema, state.params))


def check_config(checkpoints: Checkpoints, config: Config, *, force: bool) -> None:
    """Refuses a config that would change the training of the run in the workdir, unless `force`."""
    try:
        changed = differences(read(Config, checkpoints.config()), config)
    except UserError as error:  # keys that this version does not know
        changed = [str(error)]
    if changed and not force:
        raise UserError(
            f"{checkpoints.directory.parent} holds a run with another config: {'; '.join(changed)}. Use that one, "
            "another --workdir, or --force-config to go on with the new one"
        )
    if changed:
        logger.warning("going on with a changed config: %s", "; ".join(changed))


def load_weights(path: str, shapes: Params) -> Params:
    """The averaged weights of a workdir, or of one of its checkpoints, laid out as `shapes` says."""
    workdir, step = locate(path)
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore({"ema": shapes}, step=step, partial=True).state["ema"]


def _resume(config: Config, plan: StatePlan, checkpoints: Checkpoints, batches: Any, *, force: bool) -> Position:
    template = plan.shapes.as_dict()
    if config.ema.place == "host":
        template["ema"] = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), plan.shapes.params)
    restored = checkpoints.restore(template)
    checkpoints.set_aside(after=restored.step)
    try:
        if restored.data:  # empty in a checkpoint of imported weights
            batches.restore(restored.data)
    except UserError as error:
        if not force:
            raise
        logger.warning("the data starts at its beginning: %s", error)
    fields, host_ema = dict(restored.state), None
    if config.ema.place == "host":
        host_ema, fields["ema"] = HostEma(config.ema, fields["ema"]), {}
    return Position(restored.step, TrainState(**fields), host_ema)


def _host_ema(config: EmaConfig, params: Params) -> HostEma | None:
    return HostEma(config, params) if config.place == "host" else None
