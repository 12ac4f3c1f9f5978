"""Checkpoints by orbax: everything that moves, written atomically, restored strictly."""

from pdm_jax.checkpoints.manager import Checkpoints as Checkpoints
from pdm_jax.checkpoints.manager import Restored as Restored
from pdm_jax.checkpoints.paths import locate as locate
from pdm_jax.checkpoints.paths import open_workdir as open_workdir
from pdm_jax.checkpoints.paths import parts_in as parts_in
