"""Checkpoints by orbax: everything that moves, written atomically, restored strictly."""

from pdm_jax.checkpoints.manager import Checkpoints as Checkpoints
from pdm_jax.checkpoints.manager import Restored as Restored
