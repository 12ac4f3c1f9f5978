"""Adam with warm-up and a schedule, as the papers train."""

import optax

from pdm_jax.config import OptimizerConfig
from pdm_jax.training.rates import learning_rate


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Adam or AdamW with the rate of `rates.learning_rate`; raises `UserError` for a schedule that does not exist."""
    # One structure whatever the settings, so that a run can go on with other ones.
    return optax.chain(
        optax.identity() if config.clip_norm is None else optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
        optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity(),
        optax.scale_by_learning_rate(learning_rate(config)),
    )
