"""Images from noise and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from pdm_jax import rng
from pdm_jax.config import SampleConfig
from pdm_jax.denoisers.guided import guided
from pdm_jax.denoisers.thresholds import clipped
from pdm_jax.diffusion import ancestral, ddim, sample, timesteps
from pdm_jax.errors import UserError
from pdm_jax.ops.images import to_uint8
from pdm_jax.parallel import batch_sharding, replicated
from pdm_jax.systems import System
from pdm_jax.types import Array, Cond, Params

# (params, raw data of a key, numbers of the samples [B], labels [B] int32 or None) -> images (B, H, W, C) uint8
Generate = Callable[[Params, np.ndarray, np.ndarray, np.ndarray | None], Array]


def make_generate(system: System, config: SampleConfig, mesh: Mesh) -> Generate:
    """The whole sampling loop as one jitted function, its batch over the mesh.

    An image depends on the parameters, the key, its number and its label only, not on the batch it is made in.

    Raises:
      UserError: a setting of sampling that does not exist; guidance of an unconditional model.
    """
    sampler = _make_sampler(config)
    visited = timesteps(config.steps, system.process.num_steps)
    if not np.isfinite(config.guidance):
        raise UserError(f"guidance is {config.guidance}; expected a number, 1 is none")
    if config.guidance != 1 and not system.num_classes:
        raise UserError(f"guidance {config.guidance:g} needs a class-conditional model; use 1 (none)")

    def run(params: Params, key: Array, indices: Array, labels: Array | None) -> Array:
        keys = rng.sample_keys(jax.random.wrap_key_data(key), indices)
        keys, labels = jax.lax.with_sharding_constraint((keys, labels), batch_sharding(mesh))
        denoiser = system.denoiser(params)
        if config.guidance == 1:
            denoiser = clipped(denoiser, system.process, config.clip)
        else:
            denoiser = guided(denoiser, system.process, config.guidance, system.null, threshold=config.clip)
        z = rng.normal_each(rng.stream_each(keys, "initial"), system.image_shape)
        samples = sample(
            denoiser, system.process, sampler, visited, z, keys, Cond(label=labels), last_alpha=config.last_alpha
        )
        return to_uint8(samples.final)

    # Small inputs are the same on all hosts. Traced now, what cannot run is refused before any time is spent.
    indices = np.arange(mesh.devices.size, dtype=np.int32)
    labels = indices * 0 if system.num_classes else None
    jax.eval_shape(run, system.shapes, np.asarray(jax.random.key_data(jax.random.key(0))), indices, labels)
    return jax.jit(run, out_shardings=replicated(mesh))


def generate(
    run: Generate,
    params: Params,
    seed: int,
    num: int,
    labels: np.ndarray | None,
    mesh: Mesh,
    *,
    batch_size: int,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Yields images `first` to num - 1 in batches (b, H, W, C) uint8; image i is the same for any batch size.

    Args:
      run: from `make_generate`.
      labels: [num], or None where the model is unconditional.
      batch_size: rounded up to a multiple of the devices; the last batch is filled up and cut back.
    """
    devices = mesh.devices.size
    batch_size = -(-min(batch_size, num) // devices) * devices
    key = np.asarray(jax.random.key_data(rng.stream(jax.random.key(seed), "sample")))
    for start in range(first, num, batch_size):
        indices = np.arange(start, start + batch_size, dtype=np.int32)
        chosen = None if labels is None else labels[np.minimum(indices, num - 1)].astype(np.int32)
        yield np.asarray(run(params, key, indices, chosen))[: num - start]


def choose_labels(spec: str, num: int, num_classes: int) -> np.ndarray | None:
    """One label an image, [num] int32; None where there are no classes.

    Args:
      spec: "cycle" (round the classes), or class numbers "3" or "0,1,7", which are gone round too.
    """
    if not num_classes:
        if spec != "cycle":
            raise UserError("this model is unconditional; drop the labels")
        return None
    if spec == "cycle":
        return (np.arange(num) % num_classes).astype(np.int32)
    try:
        wanted = [int(part) for part in spec.split(",")]
    except ValueError:
        raise UserError(f"labels {spec!r} are not understood; expected 'cycle' or numbers like '0,1,7'") from None
    if wrong := [label for label in wanted if not 0 <= label < num_classes]:
        raise UserError(f"there is no class {wrong[0]}; this model has the classes 0 to {num_classes - 1}")
    return np.resize(np.asarray(wanted, np.int32), num)


def _make_sampler(config: SampleConfig):
    name, _, variance = config.sampler.partition("-")
    if config.sampler == "ddim":
        return ddim(config.eta)
    if name == "ancestral" and variance in ("", "small", "large"):
        return ancestral(variance or "learned")
    raise UserError(
        f"sampler is {config.sampler!r}; expected 'ancestral' (learned variance), 'ancestral-small', "
        "'ancestral-large' or 'ddim'"
    )
