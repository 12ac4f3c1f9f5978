"""A cheap number during training: how good the averaged weights are on a set that stays the same."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pdm_jax import rng
from pdm_jax.config import Config
from pdm_jax.data import Dataset, make_dataset
from pdm_jax.errors import UserError
from pdm_jax.parallel import batch_sharding, gathered, host_share, on_mesh, replicated
from pdm_jax.pipelines.generate import check_samples, generate, make_generate, tell
from pdm_jax.systems import Part, System
from pdm_jax.systems.conditions import task_inputs
from pdm_jax.training.step import put, with_codes
from pdm_jax.types import Array, Params

logger = logging.getLogger(__name__)

Measure = Callable[[Params], float]  # averaged weights -> a number, lower is better


def make_measure(part: Part, system: System, mesh: Mesh, dataset: Dataset, workdir: Path) -> Measure | None:
    """The measure of `config.eval`, set up when it is first used; None where nothing is measured.

    Args:
      dataset: where the fixed set comes from: the training data, or `config.eval.source`.
      workdir: keeps the feature network of "fid".

    Raises:
      UserError: there is no such metric, or not of a part of a model.
    """
    config = part.config
    if config.eval.every is None:
        return None
    if config.eval.metric not in ("loss", "fid"):
        raise UserError(f"config.eval.metric is {config.eval.metric!r}; expected 'loss' or 'fid'")
    if config.eval.source is not None and system.table is not None:
        raise UserError(
            "config.eval.source has images that are not in the table of codes; leave it out, or use "
            "config.codes.kind 'encoder'"
        )
    if config.eval.source is not None:
        dataset = _open(config, mesh)
    encoded = getattr(dataset, "first_stage", None) is not None
    if config.eval.metric == "loss" and encoded != ("moments" in system.inputs):
        raise UserError(
            "the loss is measured on what the model is trained on; give config.eval.source the same kind of data, "
            "images or latents, or leave it out"
        )
    if config.eval.metric == "loss":
        return _loss_measure(config, system, mesh, dataset)
    if part.name:
        raise UserError(
            "config.eval.metric 'fid' needs images, which a part of a split model does not make; use 'loss'"
        )
    return _fid_measure(config, system, mesh, dataset, workdir)


def _open(config: Config, mesh: Mesh) -> Dataset:
    """The images of `config.eval.source`, read as the training data but never cropped or flipped at random."""
    split = config.eval.split or config.data.split
    data = dataclasses.replace(
        config.data, source=config.eval.source, split=split, crop=config.data.fixed_crop, flip=False
    )
    share = host_share(mesh)
    return make_dataset(data, config.seed, task_inputs(config), process_index=share.index, process_count=share.count)


def _loss_measure(config: Config, system: System, mesh: Mesh, dataset: Dataset) -> Measure:
    """The mean loss of whole batches of the data's first order, each image always with the same step and noise."""
    num_batches = max(1, config.eval.fixed_num // dataset.batch_size)

    def losses(params: Params, batch: dict[str, Array], indices: Array) -> Array:
        keys = rng.sample_keys(rng.stream(jax.random.key(config.seed), "measure"), indices)
        keys = jax.lax.with_sharding_constraint(keys, batch_sharding(mesh))
        batch = with_codes(system, params, batch, mesh)
        whole = gathered(system.networks(params), mesh)
        step = jnp.int32(config.train.num_steps)  # whatever begins late has begun
        loss = next(iter(system.losses.values()))  # the model's own: not, say, its critic's
        return loss(whole, batch, keys, step)[0].mean()

    losses = jax.jit(on_mesh(losses, mesh), out_shardings=replicated(mesh))

    def measure(params: Params) -> float:
        stream = dataset.stream(0)
        try:
            found = [
                losses(params, put(batch, system, mesh), np.arange(i, i + dataset.batch_size, dtype=np.int32))
                for i, batch in zip(itertools.count(0, dataset.batch_size), itertools.islice(stream, num_batches))
            ]
        finally:
            stream.close()
        return float(np.mean(jax.device_get(found)))

    return measure


def _fid_measure(config: Config, system: System, mesh: Mesh, dataset: Dataset, workdir: Path) -> Measure:
    """The Fréchet distance in local features between generated images, always of the same noise, and the data."""
    from pdm_jax.evaluation.extraction import Extractor
    from pdm_jax.evaluation.frechet import distance_to
    from pdm_jax.evaluation.judges import local_network
    from pdm_jax.evaluation.statistics import Statistics
    from pdm_jax.evaluation.summary import Wanted, summarize

    num, processes = config.eval.fixed_num, jax.process_count()
    if needed := sorted(set(system.told) - {"label"}):
        raise UserError(
            f"config.eval.metric 'fid' makes images that are told classes alone, and this model needs {needed[0]}; use "
            "'loss'"
        )
    check_samples(system)
    if getattr(dataset, "first_stage", None) is not None:
        raise UserError("config.eval.metric 'fid' compares with images; give config.eval.source, or use 'loss'")
    told, run = tell(system, "cycle", num), make_generate(system, config.sample, mesh)

    def statistics(extractor: Extractor, batches: Iterator[dict[str, np.ndarray]], total: int) -> Statistics:
        output = next(iter(extractor.network.outputs))
        return summarize(extractor, batches, total, Wanted(statistics=(output,))).statistics(output)

    @functools.cache
    def judge() -> tuple[Extractor, Callable[[Statistics], float]]:
        logger.info("the feature network of config.eval.metric 'fid' learns the data")
        key = {**dataset.identity, "image_shape": system.space.picture}
        extractor = Extractor(local_network(dataset, key, workdir / "eval"), dataset.host_batch_size)
        return extractor, distance_to(statistics(extractor, dataset.once(), dataset.num_records))

    def measure(params: Params) -> float:
        extractor, distance = judge()
        size = extractor.batch_size
        images = np.concatenate(list(generate(run, params, config.seed, num, told, mesh, batch_size=size)))
        mine = np.arange(num)[jax.process_index() :: processes]
        parts = (mine[i : i + size] for i in range(0, len(mine), size))
        return distance(statistics(extractor, ({"image": images[part], "index": part} for part in parts), num))

    return measure
