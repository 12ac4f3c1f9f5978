"""Small workdirs of latent diffusion and of classifiers of its latents, with random weights."""

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.checkpoints import Checkpoints
from pdm_jax.config import to_dict
from pdm_jax.systems import make_system
from pdm_jax.systems.latent import SCALE
from tests import tiny

UNET = {"width": 32, "channel_mult": (1, 1), "num_blocks": 1, "num_heads": 2, "use_scale_shift_norm": True}


def ldm(**groups):
    """A tiny latent diffusion whose images divide by 4: f = 2, and two levels."""
    return tiny.ldm_config(model={"network": UNET, **groups.pop("model", {})}, **groups)


def classifier(**groups):
    """A tiny classifier of its latents, of three classes."""
    network = {"width": 32, "channel_mult": (1,), "num_blocks": 1, "head_dim": 32}
    model = {"system": "classifier", "num_classes": 3, "network": network}
    return tiny.ldm_config(**{"model": model, **groups})


def save(workdir, config, *, scale=0.5, first_stage=0):
    """A checkpoint with weights that nothing has been learned by, but large enough that all inputs show."""
    system = make_system(config)
    frozen = _drawn(system.frozen, first_stage) | ({SCALE: jnp.float32(scale)} if SCALE in system.frozen else {})
    state = {"params": _drawn(system.shapes, 1), "ema": _drawn(system.shapes, 2), "frozen": frozen}
    with Checkpoints(workdir, config.checkpoint) as checkpoints:
        checkpoints.save(0, state, {}, to_dict(config))
    return workdir


def _drawn(shapes, seed):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda x: (0.15 * generator.standard_normal(x.shape)).astype(x.dtype), shapes)
