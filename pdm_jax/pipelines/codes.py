"""Semantic codes: those of a run's images, and new ones from a latent prior."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from pdm_jax.config import Config
from pdm_jax.data import CodeDataset, make_dataset
from pdm_jax.errors import UserError
from pdm_jax.parallel import batch_sharding, host_share, num_batch_shards, replicated
from pdm_jax.pipelines.generate import generate, make_generate
from pdm_jax.pipelines.restore import Model, read_config, restore_model
from pdm_jax.systems import System, make_system
from pdm_jax.types import Params


def read_codes(workdir: str | Path, mesh: Mesh, *, weights: str = "ema", step: str | None = None) -> np.ndarray:
    """The codes (N, D) float32 of the images that a run was trained on: its table, or what its encoder makes of them.

    Raises:
      UserError: the run has no codes, or cannot be restored.
    """
    config = read_config(workdir, step)
    system = make_system(config)
    if system.codes is None:
        raise UserError(f"{workdir} has no semantic codes: its config.codes.kind is {config.codes.kind!r}")
    model = restore_model(workdir, system, config, mesh, weights=weights, step=step)
    if system.table is not None:
        return table_codes(model, mesh)
    dataset = make_dataset(config.data, config.seed)
    return np.concatenate(list(encoded(system, model.params, (batch["image"] for batch in dataset.once()), mesh)))


def open_codes(config: Config, mesh: Mesh) -> CodeDataset:
    """The data set of a `code_prior`, whose source is "codes:WORKDIR" of a trained model.

    Raises:
      UserError: the source is another, or its codes are of another size.
    """
    kind, _, workdir = config.data.source.partition(":")
    if kind != "codes" or not workdir:
        raise UserError(
            f"config.data.source is {config.data.source!r}; a code_prior reads codes:WORKDIR of a first run"
        )
    codes, share = read_codes(workdir, mesh), host_share(mesh)
    if codes.shape[1] != config.codes.dim:
        raise UserError(f"the codes in {workdir} have {codes.shape[1]} numbers; set config.codes.dim to that")
    return CodeDataset(
        codes,
        config.data.batch_size,
        config.seed,
        name=config.data.source,
        process_index=share.index,
        process_count=share.count,
    )


def table_codes(model: Model, mesh: Mesh) -> np.ndarray:
    """The table (N, D) of a model."""
    table = model.params[model.system.table.group]["table"]
    return np.asarray(jax.jit(lambda x: x, out_shardings=replicated(mesh))(table))


def encoded(system: System, params: Params, batches: Iterator[np.ndarray], mesh: Mesh) -> Iterator[np.ndarray]:
    """Codes (b, D) of batches of images (b, H, W, C) uint8 by a model's encoder.

    Raises:
      UserError: the model has no encoder.
    """
    if system.codes is None or system.table is not None:
        raise UserError("this model has no encoder of images; train one with config.codes.kind='encoder'")
    shares = num_batch_shards(mesh)
    run = jax.jit(lambda params, images: system.codes(params, {"image": images}), out_shardings=replicated(mesh))
    for images in batches:
        rows = np.minimum(np.arange(-(-len(images) // shares) * shares), len(images) - 1)
        placed = jax.device_put(images[rows], batch_sharding(mesh))
        yield np.asarray(run(params, placed))[: len(images)]


def open_prior(workdir: str | Path, dim: int, mesh: Mesh, *, weights: str = "ema") -> Model:
    """The latent prior in a workdir.

    Raises:
      UserError: the workdir holds no prior, or one of codes of other than `dim` numbers.
    """
    config = read_config(workdir)
    if config.model.system != "code_prior":
        raise UserError(f"{workdir} holds a model of the system {config.model.system!r}, not a code_prior")
    if config.codes.dim != dim:
        raise UserError(f"the prior in {workdir} makes codes of {config.codes.dim} numbers; this model takes {dim}")
    return restore_model(workdir, make_system(config), config, _over_batch(mesh), weights=weights)


def sample_codes(prior: Model, num: int, seed: int, mesh: Mesh) -> np.ndarray:
    """New codes (num, D) float32 from a latent prior, by its own config.sample; their noise is not the images'."""
    mesh = _over_batch(mesh)
    run = make_generate(prior.system, prior.config.sample, mesh, finish=lambda z: z[:, 0, 0])
    return np.concatenate(list(generate(run, prior.params, seed, num, {}, mesh, batch_size=1024, stream="code")))


def _over_batch(mesh: Mesh) -> Mesh:
    """The devices of a mesh with a share of the batch each: codes have no rows to share."""
    return Mesh(mesh.devices.reshape(-1, 1, 1), mesh.axis_names)
