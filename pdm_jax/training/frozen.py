"""What training reads and never changes: first stage, scale of latents, tokens of the empty caption, perceptual net."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pdm_jax import rng
from pdm_jax.checkpoints import Checkpoints, locate, open_workdir, parts_in
from pdm_jax.config import Config, read
from pdm_jax.data import Dataset
from pdm_jax.errors import UserError
from pdm_jax.networks import Autoencoder
from pdm_jax.parallel import gathered, on_mesh, replicated
from pdm_jax.pipelines.encode import check_latents
from pdm_jax.pipelines.restore import read_config
from pdm_jax.pipelines.told import open_tokenizer
from pdm_jax.systems import System, make_system
from pdm_jax.systems.autoencoder import PERCEPTUAL
from pdm_jax.systems.conditions import NULL_TOKENS
from pdm_jax.systems.latent import FIRST_STAGE, SCALE
from pdm_jax.training.resume import restored_as
from pdm_jax.training.step import put
from pdm_jax.types import Array, Params

logger = logging.getLogger(__name__)


def with_first_stage(config: Config, workdir: str | Path | None = None, init_from: str | None = None) -> Config:
    """The config with the settings of its first stage, where it says none of its own.

    The first stage is that of the run in the workdir if it has begun, else of the run whose weights are taken over,
    else of `config.latent.first_stage`.

    Raises:
      UserError: that run has no first stage, or another one than the config describes.
    """
    latent = config.latent
    source = workdir if workdir is not None and begun(workdir) else init_from or latent.first_stage
    if latent.kind == "none" or source is None or config.model.system == "autoencoder":
        return config
    found = _config_of(source)
    if source == latent.first_stage and found.model.system != "autoencoder":
        raise UserError(f"{source} holds a run of the system {found.model.system!r}, not an autoencoder")
    wanted = {"kind": latent.kind, "channels": config.data.channels}
    have = {"kind": found.latent.kind, "channels": found.data.channels}
    if latent.network is not None:
        wanted |= _filled(latent.network)
        have |= _filled(found.latent.network)
    if wrong := [name for name in sorted(wanted | have) if wanted.get(name) != have.get(name)]:
        raise UserError(
            f"the first stage in {source} has {wrong[0]} = {have.get(wrong[0])!r} and this config "
            f"{wanted.get(wrong[0])!r}; use its own settings (leave config.latent.network out), or another first stage"
        )
    return dataclasses.replace(config, latent=dataclasses.replace(latent, network=found.latent.network))


def begun(workdir: str | Path) -> bool:
    """Whether a workdir holds a checkpoint."""
    root = open_workdir(workdir)
    for part in parts_in(root) or [""]:
        with Checkpoints(root, part=part) as checkpoints:
            if checkpoints.steps():
                return True
    return False


def make_frozen(
    config: Config, system: System, dataset: Dataset, mesh: Mesh, init_from: str | None = None
) -> Callable[[Params], Params]:
    """A function that gives the frozen groups of a new run, laid out as the arrays it gets.

    Args:
      init_from: a workdir whose first stage, scale and empty caption are taken over with its weights: they belong
        together.

    Raises (when it is called):
      UserError: a file or a workdir that is needed is not given, or does not fit.
    """
    if config.model.system == "autoencoder" and config.reconstruction.perceptual is None:
        logger.warning(
            "config.reconstruction.perceptual is not set: training goes on without LPIPS, and what is fine in images "
            "will be blurred; give the files of VGG16 and of LPIPS's heads"
        )

    def load(like: Params) -> Params:
        frozen = dict(like)
        if FIRST_STAGE in like and init_from is not None:
            frozen = restored_as(init_from, {"frozen": like})["frozen"]
            check_latents(dataset, frozen[FIRST_STAGE])
            return frozen
        if FIRST_STAGE in like:
            frozen[FIRST_STAGE] = _first_stage(config, like[FIRST_STAGE])
            check_latents(dataset, frozen[FIRST_STAGE])
        if NULL_TOKENS in like:
            frozen[NULL_TOKENS] = _placed(open_tokenizer(config)(""), like[NULL_TOKENS])
        if PERCEPTUAL in like:
            frozen[PERCEPTUAL] = jax.tree.map(_placed, _perceptual(config), like[PERCEPTUAL])
        if SCALE in like:
            frozen[SCALE] = _placed(np.float32(_scale(config, system, frozen, dataset, mesh)), like[SCALE])
        return frozen

    return load


def _config_of(path: str | Path) -> Config:
    """Of a workdir, or of one of its checkpoints."""
    root, part, step = locate(path)
    if not part and step is None:
        return read_config(root)
    with Checkpoints(root, part=part) as checkpoints:
        return read(Config, checkpoints.config(step))


def _filled(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """An autoencoder's settings with what is left out of them, to be compared."""
    parameters = inspect.signature(Autoencoder.__init__).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty and name != "dtype"}
    del defaults["channels"]  # compared as config.data.channels
    own = {name: tuple(v) if isinstance(v, (list, tuple)) else v for name, v in (settings or {}).items()}
    return defaults | own


def _first_stage(config: Config, like: Params) -> Params:
    """The averaged weights of the first stage's run."""
    path = config.latent.first_stage
    if path is None:
        raise UserError(
            "config.latent.first_stage is not set; give the workdir of an autoencoder (pdm train or pdm import makes "
            "one), or config.latent.training to train one first"
        )
    # The critic is read too, onto the host, since a checkpoint's groups are compared as a whole.
    shapes = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), make_system(_config_of(path)).shapes)
    logger.info("first stage: the averaged weights of %s", path)
    return restored_as(path, {"ema": {**shapes, FIRST_STAGE: like}})["ema"][FIRST_STAGE]


def _scale(config: Config, system: System, frozen: Params, dataset: Dataset, mesh: Mesh) -> float:
    """`config.latent.scale`, or 1 / deviation (of a sample, N - 1) of all numbers of the first batch's latents."""
    if config.latent.scale is not None:
        return config.latent.scale
    stream = dataset.stream(0)
    try:
        batch = put(next(stream), system, mesh)
    finally:
        stream.close()

    def deviation(frozen: Params, batch: dict[str, Array], indices: Array) -> Array:
        keys = rng.sample_keys(rng.stream(jax.random.key(config.seed), "scale"), indices)
        whole = gathered(frozen, mesh) | {SCALE: jnp.float32(1)}
        return jnp.std(system.space.start(whole, batch, keys), ddof=1)

    run = jax.jit(on_mesh(deviation, mesh), out_shardings=replicated(mesh))
    found = float(run(frozen, batch, np.arange(config.data.batch_size, dtype=np.int32)))
    logger.info("latents of the first batch deviate by %.4f; they are multiplied by %.4f", found, 1 / found)
    return 1 / found


def _perceptual(config: Config) -> Params:
    """LPIPS with VGG16, from the two files of `config.reconstruction.perceptual`."""
    from pdm_jax.evaluation.pretrained import load_lpips

    files = config.reconstruction.perceptual.split(",")
    if len(files) != 2:
        raise UserError(
            f"config.reconstruction.perceptual is {config.reconstruction.perceptual!r}; expected two files, of VGG16 "
            "and of LPIPS's heads, with a comma between them"
        )
    return load_lpips("vgg", *files)[1]


def _placed(value: Any, like: jax.Array) -> jax.Array:
    """A host array as one that lies where `like` does."""
    value = np.asarray(value, like.dtype)
    if value.shape != like.shape:
        raise UserError(f"a frozen array is {value.shape}; expected {like.shape}")
    return jax.make_array_from_callback(like.shape, like.sharding, value.__getitem__)
