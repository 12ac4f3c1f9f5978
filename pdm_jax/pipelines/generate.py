"""Images from noise and what is told of them, and previews of a range of steps from images."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pdm_jax import rng
from pdm_jax.config import SampleConfig
from pdm_jax.denoisers.guided import guided
from pdm_jax.denoisers.thresholds import clipped, named
from pdm_jax.denoisers.tiled import tiled
from pdm_jax.diffusion import ancestral, ddim, plms, sample, timesteps
from pdm_jax.diffusion.samplers import Sampler
from pdm_jax.errors import UserError
from pdm_jax.ops.images import to_uint8
from pdm_jax.parallel import batch_sharding, check_rows, gathered, image_sharding, num_batch_shards, on_mesh, replicated
from pdm_jax.pipelines.guides import Guide
from pdm_jax.systems import System, Told
from pdm_jax.types import Array, Cond, Denoiser, Params

# (params, raw data of a key, numbers of the samples [B], what is told of each (`System.told`, `Guide.told`), images to
# start from as batches of data hold them (`Space.inputs`), or None) -> images (B, H, W, C) uint8
Generate = Callable[[Params, np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray | None], Array]


def make_generate(
    system: System,
    config: SampleConfig,
    mesh: Mesh,
    *,
    guides: Sequence[Guide] = (),
    steps: tuple[int, int] | None = None,
    finish: Callable[[Array], Array] = to_uint8,
) -> Generate:
    """The whole sampling loop as one jitted function, its batch over `data` and `fsdp` of the mesh, rows over `space`.

    An image depends on the parameters, the key, its number, what is told of it and the image it starts from only, not
    on the batch it is made in.

    Args:
      system: the model.
      config: `guidance` is w in uncond + w (cond - uncond): 1 is none, and where a paper writes
        (1 + w) cond - w uncond its w is ours minus 1. It acts where guidance_from <= t < guidance_to.
      mesh: of the devices.
      guides: what else steers; their parameters are beside the model's.
      steps: visits only those of `config.steps` with steps[0] <= t < steps[1], and ends with the x0 that is predicted
        at the last of them. A range below the noisiest step starts from images with the noise of its first step.
        None: all, from noise.
      finish: makes of the decoded last state (B, H, W, C) what is returned.

    Raises:
      UserError: a setting of sampling that does not exist; guidance of a model that is told nothing, or of one that
        never had to do without; a range of steps in which none is visited.
    """
    check_samples(system)
    check_rows(mesh, system.image_shape[0], "an image")
    sampler, process = make_sampler(config), system.process
    visited = _visited(config.steps, process.num_steps, steps)
    from_noise = steps is None or steps[1] >= process.num_steps
    last_alpha = config.last_alpha if steps is None else "one"
    ((begins, image),) = system.space.inputs.items()

    def run(params: Params, key: Array, indices: Array, told: dict[str, Array], images: Array | None) -> Array:
        if from_noise != (images is None):
            raise UserError("a range of steps below the noisiest starts from images, any other from noise")
        key = jax.random.wrap_key_data(key)
        keys, step_key = rng.sample_keys(key, indices), rng.stream(key, "step")
        keys, told = jax.lax.with_sharding_constraint((keys, told), batch_sharding(mesh))
        z = rng.normal_each(rng.stream_each(keys, "initial"), system.image_shape)
        z, images = jax.lax.with_sharding_constraint((z, images), image_sharding(mesh))
        params = gathered(system.networks(params), mesh)
        if not from_noise:
            z = process.q_sample(system.space.start(params, {begins: images}, keys), int(visited[-1]), z)
        options = {"last_alpha": last_alpha, "step_key": step_key}
        return finish(walk(system, config, params, told, z, keys, sampler, visited, guides=guides, **options))

    # Small inputs are the same on all hosts. Traced now, what cannot run is refused before any time is spent.
    run, size = on_mesh(run, mesh), num_batch_shards(mesh)
    images = None if from_noise else np.zeros((size, *image.shape), image.dtype)
    params = functools.reduce(operator.or_, (guide.params for guide in guides), system.all_shapes)
    jax.eval_shape(run, params, raw_key(0), np.arange(size, dtype=np.int32), nothing_told(system, size, guides), images)
    return jax.jit(run, out_shardings=replicated(mesh))


def generate(
    run: Generate,
    params: Params,
    seed: int,
    num: int,
    told: Mapping[str, np.ndarray],
    mesh: Mesh,
    *,
    batch_size: int,
    first: int = 0,
    images: np.ndarray | None = None,
    stream: str = "sample",
) -> Iterator[np.ndarray]:
    """Yields images `first` to num - 1 in batches (b, H, W, C) uint8; image i is the same for any batch size.

    Args:
      run: from `make_generate`.
      told: of each image, arrays (num, ...) as `System.told` wants them.
      batch_size: rounded up to a multiple of the mesh's shares; the last batch is filled up and cut back.
      images: (num, H, W, C) to start from, where `run` visits a range of steps below the noisiest; else None.
      stream: the name of the noise; what is sampled for the same images, such as their codes, needs another one.
    """
    shares = num_batch_shards(mesh)
    batch_size = -(-min(batch_size, num) // shares) * shares
    key = raw_key(seed, stream)
    for start in range(first, num, batch_size):
        indices = np.arange(start, start + batch_size, dtype=np.int32)
        rows = np.minimum(indices, num - 1)
        given = None if images is None else images[rows]
        own = {name: np.asarray(values[rows]) for name, values in told.items()}
        yield np.asarray(run(params, key, indices, own, given))[: num - start]


def raw_key(seed: int, stream: str = "sample") -> np.ndarray:
    """The raw data of the key of a seed's samples."""
    return np.asarray(jax.random.key_data(rng.stream(jax.random.key(seed), stream)))


def nothing_told(system: System, size: int, guides: Sequence[Guide] = ()) -> dict[str, np.ndarray]:
    """Zeros in the place of what a batch would be told."""
    told = functools.reduce(operator.or_, (guide.told for guide in guides), dict(system.told))
    return {name: np.zeros((size, *x.shape), x.dtype) for name, x in told.items()}


def tell(system: System, labels: str, num: int, codes: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """What sampling is told of `num` images: labels of a text (see `choose_labels`), and codes gone round.

    Raises:
      UserError: labels that the model has not, or codes that are missing or of another size.
    """
    chosen = choose_labels(labels, num, system.num_classes)
    told = {} if chosen is None else {"label": chosen}
    if "code" in system.told:
        (size,) = system.told["code"].shape
        if codes is None:
            raise UserError("this model makes images of semantic codes, and there are none: give it a latent prior")
        if codes.shape[1] != size:
            raise UserError(f"the codes have {codes.shape[1]} numbers and this model takes {size}; use its own prior")
        told["code"] = codes[np.arange(num) % len(codes)].astype(np.float32)
    return told


def make_sampler(config: SampleConfig) -> Sampler:
    """The sampler of a config; raises `UserError` if there is none of that name."""
    name, _, variance = config.sampler.partition("-")
    if config.sampler == "ddim":
        return ddim(config.eta, config.temperature)
    if config.sampler == "plms":
        if config.eta:
            raise UserError(f"eta is {config.eta:g} and PLMS draws no noise; set it to 0, or take the sampler ddim")
        return plms()
    if name == "ancestral" and variance in ("", "small", "large"):
        return ancestral(variance or "learned", config.temperature)
    raise UserError(
        f"sampler is {config.sampler!r}; expected 'ancestral' (learned variance), 'ancestral-small', "
        "'ancestral-large', 'ddim' or 'plms'"
    )


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


def _visited(spec: str, num_steps: int, steps: tuple[int, int] | None) -> np.ndarray:
    visited = timesteps(spec, num_steps)
    if steps is None:
        return visited
    inside = visited[(steps[0] <= visited) & (visited < steps[1])]
    if not inside.size:
        raise UserError(f"steps {spec!r} visit none of [{steps[0]}, {steps[1]}); set config.sample.steps to more")
    return inside


def _check_guidance(system: System, scale: float) -> None:
    if not np.isfinite(scale):
        raise UserError(f"guidance is {scale}; expected a number, 1 is none")
    if scale == 1:
        return
    if not system.dropouts:
        raise UserError(f"guidance {scale:g} needs a model told of classes, captions or layouts; use 1 (none)")
    if not system.has_null:
        raise UserError(
            f"guidance {scale:g} needs a model that learned to do without what it is told; use 1 (none), or train "
            f"with {' and '.join(f'config.loss.{name}' for name in system.dropouts)} above 0, such as 0.1"
        )


def check_samples(system: System) -> None:
    """Raises a `UserError` if the system makes no images of noise."""
    if system.denoiser is None:
        raise UserError(
            "this model is no denoiser and makes no images of its own; a first stage is named by "
            "config.latent.first_stage of a run on its latents, a classifier by --classifier when sampling from one"
        )


def walk(
    system: System,
    config: SampleConfig,
    params: Params,
    told: Told,
    z: Array,
    keys: Array,
    sampler: Sampler,
    visited: np.ndarray,
    *,
    guides: Sequence[Guide] = (),
    **options: Any,
) -> Array:
    """The images (B, H, W, C), float, that a sampling loop from z ends with; `options` are of `diffusion.sample`."""
    cond = system.cond(params, told, z.shape)
    denoiser = wrapped(system, params, config, cond)
    for guide in guides:
        denoiser = guide.steer(denoiser, params, told)
    samples = sample(denoiser, system.process, sampler, visited, z, keys, cond, **options)
    return system.space.decode(params, samples.final, config.decode_tile)


def wrapped(system: System, params: Params, config: SampleConfig, cond: Cond) -> Denoiser:
    """The denoiser guided and clipped as the config says, to be called with `cond`.

    Raises:
      UserError: the model cannot be guided.
    """
    _check_guidance(system, config.guidance)
    denoiser = system.denoiser(params)
    if config.tile is not None:
        denoiser = tiled(denoiser, system.process, config.tile, config.tile // 2)
    threshold = named(config.clip, config.percentile)
    if config.guidance == 1:
        return clipped(denoiser, system.process, threshold, unclipped_last=config.unguided_last)
    stop = system.process.num_steps if config.guidance_to is None else config.guidance_to
    return guided(
        denoiser,
        system.process,
        config.guidance,
        system.null(params, cond),  # once: an empty caption goes through a whole network
        kind=system.guides,
        threshold=threshold,
        unguided_last=config.unguided_last,
        interval=(config.guidance_from, stop),
    )
