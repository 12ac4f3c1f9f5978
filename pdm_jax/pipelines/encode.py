"""The first stage of a run as an encoder of images, and what tells it from other first stages."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from pdm_jax.checkpoints.checks import checksums
from pdm_jax.config import Config
from pdm_jax.data import Dataset
from pdm_jax.data.record import checksum
from pdm_jax.errors import UserError
from pdm_jax.ops.images import to_float
from pdm_jax.parallel import batch_sharding, gathered, num_batch_shards, on_mesh, replicated
from pdm_jax.pipelines.restore import read_config, restore_model
from pdm_jax.systems import make_system
from pdm_jax.systems.latent import FIRST_STAGE, make_space
from pdm_jax.types import Array, Params


def open_encoder(config: Config, mesh: Mesh) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """The first stage in `config.latent.first_stage`, and its fingerprint.

    Returns:
      (function of images uint8 (b, H, W, C), b up to the batch size, that gives moments (b, h, w, c) as
      `LatentSpace.moments` does; fingerprint).

    Raises:
      UserError: there is none, or it cannot be restored or take such images.
    """
    space, workdir = make_space(config), config.latent.first_stage
    if workdir is None:
        raise UserError("config.latent.first_stage is not set; give the workdir of the autoencoder that is to encode")
    first_config = read_config(workdir)
    model = restore_model(workdir, make_system(first_config), first_config, mesh)
    params = {FIRST_STAGE: model.params[FIRST_STAGE]}
    shares = num_batch_shards(mesh)
    size = -(-config.data.batch_size // shares) * shares

    def moments(params: Params, images: Array) -> Array:
        return space.moments(gathered(params, mesh), to_float(images))

    run = jax.jit(on_mesh(moments, mesh), out_shardings=replicated(mesh))

    def encode(images: np.ndarray) -> np.ndarray:
        full = images[np.minimum(np.arange(size), len(images) - 1)]
        return np.asarray(run(params, jax.device_put(full, batch_sharding(mesh))))[: len(images)]

    return encode, fingerprint(params[FIRST_STAGE])


def fingerprint(first_stage: Params) -> str:
    """What tells the weights of a first stage from others, however they are laid out on devices."""
    return checksum(f"{name} {value}" for name, value in sorted(checksums(first_stage).items()))


def check_latents(dataset: Dataset, first_stage: Params) -> None:
    """Raises a `UserError` if a data set is of latents that another first stage made."""
    if dataset.first_stage not in (None, found := fingerprint(first_stage)):
        raise UserError(
            f"{dataset.name} was encoded by the first stage {dataset.first_stage}, and that of this run is {found}; "
            "encode again with `pdm data encode`, or train with that first stage"
        )
