"""Images in memory, and networks that are trained on them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from tqdm import tqdm

from pdm_jax.config import Config, MeshConfig, SampleConfig
from pdm_jax.data import ArrayDataset
from pdm_jax.errors import UserError
from pdm_jax.evaluation.image_sets import ImageSet
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.generate import generate, make_generate, tell
from pdm_jax.systems import System
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.state import plan_state
from pdm_jax.training.step import make_train_step, put
from pdm_jax.types import Params

_BATCH = 32  # images sampled at once


@dataclasses.dataclass(frozen=True)
class Photographs:
    """Squares of a data source, (N, S, S, 3) uint8 each."""

    name: str
    train: np.ndarray
    # Not trained on; samples get the codes of these. Windows of `builtin:photos` overlap with those that are.
    held_out: np.ndarray


def read_photographs(source: str, size: int, num: int, num_held_out: int) -> Photographs:
    """At most `num` images to train on, in an order of their own; raises `UserError` where there are too few."""
    images = np.concatenate([batch["image"] for batch in ImageSet(source, size=size).batches(256)])
    if len(images) < 2 * num_held_out:
        raise UserError(f"{source} has {len(images)} images; this scale needs at least {2 * num_held_out}")
    images = np.random.default_rng(0).permutation(images)
    return Photographs(source.rpartition("/")[2], images[num_held_out:][:num], images[:num_held_out])


def make_trainer(system: System, config: Config, images: np.ndarray, num_steps: int) -> Callable[[int], Params]:
    """A function of a seed to averaged weights after `num_steps` steps, compiled once for all seeds."""
    mesh, optimizer = make_mesh(MeshConfig(), jax.devices()[:1]), make_optimizer(config.optimizer)
    plan = plan_state(system, optimizer, config.ema, mesh)
    step = make_train_step(system, optimizer, config, mesh, plan)

    def train(seed: int) -> Params:
        state = plan.init(jax.random.key(seed))
        with contextlib.closing(iter(ArrayDataset(images, None, config.data.batch_size, seed))) as batches:
            for _ in tqdm(range(num_steps), f"seed {seed}"):
                state, metrics = step(state, put(next(batches), system, mesh))
        if not np.isfinite(metrics["loss"]):
            raise UserError(f"the loss of seed {seed} is {metrics['loss']}; it did not train")
        return state.ema

    return train


def make_drawer(system: System, steps: int) -> Callable[[Params, np.ndarray, int], np.ndarray]:
    """A function of weights, photographs (N, S, S, 3) uint8 and a seed to as many samples, by DDIM.

    Where the system has codes, each sample gets that of its photograph, in the place of a latent prior.
    """
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    run = make_generate(system, SampleConfig(sampler="ddim", steps=str(steps), clip="static"), mesh)
    encode = jax.jit(lambda params, x: system.codes(params, {"image": x}))

    def draw(params: Params, photographs: np.ndarray, seed: int) -> np.ndarray:
        num = len(photographs)
        codes = None if system.codes is None else np.asarray(encode(params, photographs))
        told = tell(system, "cycle", num, codes)
        return np.concatenate(list(generate(run, params, seed, num, told, mesh, batch_size=min(num, _BATCH))))

    return draw
