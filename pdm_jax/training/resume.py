"""Where a run begins: at its newest sound checkpoint, at another run's weights, or from nothing."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pdm_jax.checkpoints import Checkpoints, locate, parts_in
from pdm_jax.config import Config, EmaConfig, differences, read
from pdm_jax.errors import UserError
from pdm_jax.networks import count_params
from pdm_jax.systems import Part, make_system, parts_of
from pdm_jax.training.host_ema import HostEma
from pdm_jax.training.state import StatePlan, TrainState
from pdm_jax.types import Params

logger = logging.getLogger(__name__)
_LISTED = 4  # arrays that a warm start names


@dataclasses.dataclass(frozen=True)
class Position:
    """A state to go on from."""

    step: int  # updates done
    state: TrainState
    host_ema: HostEma | None


def begin(
    part: Part,
    plan: StatePlan,
    checkpoints: Checkpoints,
    batches: Any,
    *,
    weights: Callable[[Params], Params] | None = None,
    frozen: Callable[[Params], Params] | None = None,
    force_config: bool = False,
) -> Position:
    """Restores the run, its data included, or starts it; `batches` is moved to the right place.

    Args:
      part: what is trained.
      weights: makes of the initial weights, by group, those that a new run starts from.
      frozen: gives the frozen groups of a new run, laid out as these arrays.

    Raises:
      UserError: the workdir holds a run with another config, or nothing in it can be restored; `weights` raises.
    """
    if checkpoints.steps():
        check_config(checkpoints, part, force=force_config)
        return _resume(part.config, plan, checkpoints, batches, force=force_config)
    state = plan.init(jax.random.key(part.config.seed))
    if weights is not None:
        params = weights(state.params)
        ema = jax.tree.map(jax.numpy.copy, params) if part.config.ema.place == "device" else {}
        state = dataclasses.replace(state, params=params, ema=ema)
    if frozen is not None:
        state = dataclasses.replace(state, frozen=frozen(state.frozen))
    return Position(0, state, _host_ema(part.config.ema, state.params))


def check_config(checkpoints: Checkpoints, part: Part, *, force: bool) -> None:
    """Refuses a config that would change the training of the run in the workdir, unless `force`."""
    try:
        stored = {other.name: other for other in parts_of(read(Config, checkpoints.config()))}
        changed = differences(stored[part.name].config, part.config) if part.name in stored else ["config.split"]
    except UserError as error:  # keys that this version does not know
        changed = [str(error)]
    if changed and not force:
        raise UserError(
            f"{checkpoints.directory.parent} holds a run with another config: {'; '.join(changed)}. Use that one, "
            "another --workdir, or --force-config to go on with the new one"
        )
    if changed:
        logger.warning("going on with a changed config: %s", "; ".join(changed))


def load_weights(path: str, like: Params) -> Params:
    """The averaged weights of a workdir, or of one of its checkpoints, laid out as these arrays."""
    weights = restored_as(path, {"ema": like})["ema"]
    logger.info("starting from the weights of %s", path)
    return weights


def restored_as(path: str, like: Params) -> Params:
    """Parts of the state in a workdir, or in one of its checkpoints, laid out as these arrays, on devices or the host.

    Of a split model it is the first part's.
    """

    def template(x: jax.Array | np.ndarray) -> jax.ShapeDtypeStruct | np.ndarray:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) if isinstance(x, jax.Array) else x

    workdir, part, step = locate(path)
    with Checkpoints(workdir, part=part or (parts_in(workdir) or [""])[0]) as checkpoints:
        return checkpoints.restore(jax.tree.map(template, like), step=step, partial=True).state


def warm_weights(workdir: Path, before: Part, part: Part, initial: Params) -> Params:
    """The averaged weights of the part before where names and shapes agree, the initial ones elsewhere."""
    hosts = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), make_system(before.config).shapes)
    with Checkpoints(workdir, part=before.name) as checkpoints:
        weights = checkpoints.restore({"ema": hosts}, partial=True).state["ema"]
    found, own = dict(jax.tree.leaves_with_path(weights)), {}

    def take(path: Any, leaf: jax.Array) -> jax.Array:
        if path in found and found[path].shape == leaf.shape:
            return jax.device_put(found[path], leaf.sharding)
        own[jax.tree_util.keystr(path, simple=True, separator="/")] = leaf.size
        return leaf

    params, total = jax.tree.map_with_path(take, initial), count_params(initial)
    new = f"; new are {', '.join(list(own)[:_LISTED])}{', ...' if len(own) > _LISTED else ''}" if own else ""
    logger.info(
        f"{part.name} starts from the averaged weights of {before.name}: "
        f"{total - sum(own.values()):,} of {total:,} parameters{new}"
    )
    return params


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
