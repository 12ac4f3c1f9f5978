"""How well a model explains images: the variational bound of each, in bits per dimension."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from pdm_jax import rng
from pdm_jax.config import SampleConfig
from pdm_jax.denoisers.thresholds import clipped
from pdm_jax.diffusion import bits_per_dim, timesteps
from pdm_jax.diffusion.likelihood import Bound
from pdm_jax.diffusion.samplers import Ancestral
from pdm_jax.errors import UserError
from pdm_jax.ops.images import to_float
from pdm_jax.parallel import batch_sharding, gathered, image_sharding, num_batch_shards, on_mesh, replicated
from pdm_jax.pipelines.generate import check_samples, make_sampler
from pdm_jax.systems import System
from pdm_jax.types import Array, Cond, Denoiser, Params, Prediction, Step

# (params, raw data of a key, numbers of the images [B], images (B, H, W, C) uint8, labels [B] int32 or None) -> Bound
MeasureBits = Callable[[Params, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None], Bound]


def make_bits(
    system: System, config: SampleConfig, mesh: Mesh, *, steps: str | int | None = None, clip: str = "static"
) -> MeasureBits:
    """The bound of the model that `config` samples from (DDPM eq. 5), without guidance, as one jitted function.

    An image's bound depends on the parameters, the key, its number and its label only, not on its batch. Steps are
    columns of the `Bound`, the noisiest first.

    Args:
      config: its sampler says the variance of a step: "ancestral-small", "ancestral-large", else the learned one.
      mesh: B is a multiple of data times fsdp.
      steps: what is visited, as `config.steps`, which None takes; the number of steps T visits all.
      clip: of the predicted x0, "static" (to [-1, 1], as guided-diffusion's `calc_bpd_loop`) or "none".

    Raises:
      UserError: there are no such steps, or there is no variance.
    """
    check_samples(system)
    if set(system.told) - {"label"}:
        raise UserError(
            f"the bound is of pixels that a model is told nothing else of; this one needs {', '.join(system.told)}"
        )
    if system.frozen:
        raise UserError("the bound is of pixels; this model's diffusion is of latents, whose bits are not an image's")
    process, sampler = system.process, make_sampler(config)
    visited = timesteps(config.steps if steps is None else steps, process.num_steps)
    variance = sampler.variance if isinstance(sampler, Ancestral) else "learned"

    def run(params: Params, key: Array, indices: Array, images: Array, labels: Array | None) -> Bound:
        keys = rng.sample_keys(jax.random.wrap_key_data(key), indices)
        keys, labels = jax.lax.with_sharding_constraint((keys, labels), batch_sharding(mesh))
        images = jax.lax.with_sharding_constraint(images, image_sharding(mesh))
        params = gathered(system.networks(params), mesh)
        denoiser = system.denoiser(params)
        if variance == "learned":
            denoiser = _needing_variance(denoiser)
        denoiser = clipped(denoiser, process, clip)
        cond = system.cond(params, {} if labels is None else {"label": labels}, images.shape)
        return bits_per_dim(denoiser, process, visited, to_float(images), keys, cond, variance=variance)

    run, indices = on_mesh(run, mesh), np.arange(num_batch_shards(mesh), dtype=np.int32)
    images = np.zeros((len(indices), *system.image_shape), np.uint8)
    labels = indices * 0 if system.num_classes else None
    # Traced now, what cannot run is refused before any time is spent.
    jax.eval_shape(run, system.all_shapes, np.asarray(jax.random.key_data(jax.random.key(0))), indices, images, labels)
    return jax.jit(run, out_shardings=replicated(mesh))


def _needing_variance(denoiser: Denoiser) -> Denoiser:
    """The denoiser, which is refused when called if it has no variance."""

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        prediction = denoiser(z_t, step, cond)
        if prediction.variance is None:
            raise UserError(
                "the bound needs a variance and this model learned none; "
                "set the sampler to 'ancestral-small' or 'ancestral-large'"
            )
        return prediction

    return denoise
