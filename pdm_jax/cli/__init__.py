"""The `pdm` command."""

from pdm_jax.cli.main import main as main
