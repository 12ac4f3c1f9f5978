"""Adam with warm-up, as the papers train."""

import optax

from pdm_jax.config import OptimizerConfig


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Adam; the rate grows linearly from 0 (at the first update) over `warmup_steps`, then stays."""
    rate = config.learning_rate
    if config.warmup_steps:
        rate = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    adam = optax.adam(rate, b1=config.b1, b2=config.b2, eps=config.eps)
    return adam if config.clip_norm is None else optax.chain(optax.clip_by_global_norm(config.clip_norm), adam)
