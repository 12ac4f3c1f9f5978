"""Adam with warm-up, as the papers train."""

import jax.numpy as jnp
import optax

from pdm_jax.config import OptimizerConfig
from pdm_jax.types import Array


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Adam or AdamW; the rate grows linearly from 0 (at the first update) over `warmup_steps`, then stays."""

    def rate(count: Array) -> Array:
        warm = jnp.minimum(1.0, count / max(config.warmup_steps, 1)) if config.warmup_steps else 1.0
        return jnp.float32(config.learning_rate) * warm

    # One structure whatever the settings, so that a run can go on with other ones.
    return optax.chain(
        optax.identity() if config.clip_norm is None else optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
        optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity(),
        optax.scale_by_learning_rate(rate),
    )
