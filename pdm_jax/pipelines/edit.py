"""Images on a canvas of another size, and pictures of which a part is known (Patch-DM, section 5.4)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import reduce
from jax.sharding import Mesh

from pdm_jax import rng
from pdm_jax.config import SampleConfig
from pdm_jax.diffusion import timesteps
from pdm_jax.diffusion.resampling import resampled
from pdm_jax.diffusion.samplers import Sampler
from pdm_jax.diffusion.sampling import StateMap
from pdm_jax.ops.images import to_uint8
from pdm_jax.parallel import batch_sharding, check_rows, gathered, image_sharding, on_mesh, replicated
from pdm_jax.pipelines.generate import Generate, check_samples, make_sampler, walk
from pdm_jax.pipelines.guides import Guide
from pdm_jax.pipelines.known import compose, keep_known
from pdm_jax.pipelines.layouts import Layout
from pdm_jax.systems import System, Told
from pdm_jax.types import Array, Params, Step


class Known(NamedTuple):
    """A picture on a canvas, and how far each of its pixels is kept."""

    image: np.ndarray  # (H, W, C) uint8
    weights: np.ndarray  # (H, W, 1) float32 in [0, 1], from `ops.masks.known_weights`


def make_edit(
    system: System,
    config: SampleConfig,
    mesh: Mesh,
    layout: Layout,
    *,
    known: Known | None = None,
    guides: Sequence[Guide] = (),
    jump_length: int = 1,
    num_jumps: int = 0,
    on_step: Callable[[], object] | None = None,
) -> Generate:
    """The sampling loop on a canvas as one jitted function, for `generate`; images are of the canvas's size.

    On the trained canvas with nothing known it makes what `make_generate` makes.

    Args:
      config: how to sample.
      layout: of the canvas.
      known: is kept, to the byte where its weights are 1. While images are made it holds its place in them as well,
        in latents where all pixels of one are known, unless the model itself is told of the hole.
      guides: as in `make_generate`.
      jump_length, num_jumps: resampling jumps (`diffusion.resampling`), which join what is made to what is known.
      on_step: called on the host after each step.

    Raises:
      UserError: the canvas's rows cannot be shared over `space`, or settings are out of range.
    """
    check_samples(system)
    check_rows(mesh, layout.size[0] // system.space.factor, "the canvas")
    sampler, visited = _visiting(system, config, jump_length, num_jumps)
    options = {"last_alpha": config.last_alpha, "after_step": on_step and _reporting(on_step)}

    def run(known: Known | None, params: Params, key: Array, indices: Array, told: Told, images: None) -> Array:
        key = jax.random.wrap_key_data(key)
        keys, step_key = rng.sample_keys(key, indices), rng.stream(key, "step")
        keys, told = jax.lax.with_sharding_constraint((keys, dict(told)), batch_sharding(mesh))
        noise = rng.normal_each(rng.stream_each(keys, "initial"), system.image_shape)
        z = jax.lax.with_sharding_constraint(layout.start(noise, keys), image_sharding(mesh))
        if layout.position is not None:
            told["position"] = jnp.broadcast_to(layout.position[None], (len(z), *layout.position.shape))
        params = gathered(system.networks(params), mesh)
        keep = None
        if known is not None:
            known = Known(*jax.tree.map(lambda x: x[None], known))
            keep = None if "mask" in told else _keeping(system, params, known, keys)
        own = options | {"step_key": step_key, "before_step": keep}
        made = to_uint8(walk(system, config, params, told, z, keys, sampler, visited, guides=guides, **own))
        return made if known is None else compose(known.image, made, known.weights)

    return functools.partial(jax.jit(on_mesh(run, mesh), out_shardings=replicated(mesh)), known)


def num_steps(system: System, config: SampleConfig, jump_length: int = 1, num_jumps: int = 0) -> int:
    """How many steps a batch of `make_edit` takes, jumps included."""
    sampler, visited = _visiting(system, config, jump_length, num_jumps)
    return len(sampler.table(system.process, visited, config.last_alpha)["t"])


def _keeping(system: System, params: Params, known: Known, keys: Array) -> StateMap:
    """`keep_known` of what the model samples: a latent is as known as the least known of its pixels."""
    x0 = system.space.start(params, {"image": known.image}, keys)
    factor = system.space.factor
    weights = reduce(known.weights, "b (h p) (w q) c -> b h w c", "min", p=factor, q=factor)
    return keep_known(system.process, x0, weights, keys)


def _visiting(system: System, config: SampleConfig, jump_length: int, num_jumps: int) -> tuple[Sampler, np.ndarray]:
    """The sampler and the steps that it visits."""
    sampler = resampled(make_sampler(config), jump_length, num_jumps)
    return sampler, timesteps(config.steps, system.process.num_steps)


def _reporting(on_step: Callable[[], object]) -> StateMap:
    def report(z: Array, step: Step) -> Array:
        jax.debug.callback(lambda t: on_step(), step.t)
        return z

    return report
