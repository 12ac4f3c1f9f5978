"""The `pdm` command in this process, and small workdirs for it."""

from pathlib import Path

import jax
import numpy as np
import pytest

from pdm_jax.checkpoints import Checkpoints
from pdm_jax.cli import main
from pdm_jax.cli.config_files import load_config
from pdm_jax.config import to_dict
from pdm_jax.systems import make_system
from tests import tiny

ROOT = Path(__file__).parents[2]
SMOKE = f"{ROOT}/configs/quickstart.py:smoke"
SETTINGS = [
    *("--config.data.image_size=4", "--config.sample.steps=4", "--config.sample.guidance=1", "--config.split.snr=()"),
]


@pytest.fixture
def pdm(capsys):
    """Runs `pdm ...`; returns the exit status, stdout and stderr."""

    def run(*argv):
        with jax.numpy_dtype_promotion("standard"):  # optax mixes weak and strong types
            status = main([str(argument) for argument in argv])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def refused(pdm):
    """Runs `pdm ...`, which must fail with one line and status 2; returns the line."""

    def run(*argv):
        status, out, err = pdm(*argv)
        assert status == 2 and out == ""
        assert err.startswith("pdm: ") and err.count("\n") == 1
        return err

    return run


def random_weights(config, seed):
    """Weights that nothing has been learned by, but large enough that all inputs show in the output."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda x: generator.normal(0, 0.2, x.shape).astype(np.float32), make_system(config).shapes)


def save_weights(workdir, config, steps):
    with Checkpoints(workdir, config.checkpoint) as checkpoints:
        for step in steps:
            state = {"params": random_weights(config, step), "ema": random_weights(config, step + 1)}
            checkpoints.save(step, state, {}, to_dict(config))


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
    """A run of digits as it is after four steps, with checkpoints at 2 and 4."""
    path = tmp_path_factory.mktemp("run")
    save_weights(path, load_config(SMOKE, SETTINGS), (2, 4))
    (path / "metrics.jsonl").write_text('{"step": 2, "loss": 9.0}\n{"step": 4, "loss": 8.5}\n')
    return path


@pytest.fixture(scope="session")
def unconditional(tmp_path_factory):
    """A workdir of a model of colour images without classes."""
    path = tmp_path_factory.mktemp("unconditional")
    config = tiny.config(data={"channels": 3}, model={"num_classes": 0}, loss={"label_dropout": 0.0})
    save_weights(path, config, (0,))
    return path
