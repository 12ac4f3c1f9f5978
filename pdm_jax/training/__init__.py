"""Training: state, step, averaging, reports and the loop that joins them."""

from pdm_jax.training.loop import train as train
