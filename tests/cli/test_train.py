"""`pdm train`: what it refuses. What it does is in tests/training."""

import pytest

from tests.cli.conftest import SETTINGS
from tests.cli.conftest import SMOKE as CONFIG

SMOKE = f"--config={CONFIG}"


def test_another_config_is_refused(workdir, refused):
    line = refused("train", SMOKE, *SETTINGS, f"--workdir={workdir}", "--config.seed=5")
    assert "config.seed: 0 -> 5" in line and "--force-config" in line


@pytest.mark.parametrize(
    "settings, message",
    [
        (["--config.model.patch_size=3"], "image of 16x16 cannot be cut into patches of 3x3"),
        (["--config.model.network.channel_mult=[1,1,1,1,1]"], "grid"),
        (["--config.model.network.width=40"], "a width of 40 channels"),
        (["--config.model.network.colour=3"], "config.model.network.colour"),
        (["--config.model.system=gan"], "config.model.system is 'gan'; expected one of pdm"),
        (["--config.model.num_classes=3"], "set it to 10"),
        (["--config.data.source=builtin:cats"], "builtin:cats does not exist"),
        (["--config.data.source=folder:/no/such/folder"], "/no/such/folder"),
        (["--config.data.batch_size=12"], "must be a multiple of 8"),
        (["--config.sample.sampler=dpm"], "sampler is 'dpm'"),
        (["--config.train.num_step=7"], "did you mean config.train.num_steps"),
        (["--config.train.num_steps", "7"], "expected --config.GROUP.KEY=VALUE"),
        (["--init-from=/no/such/run"], "/no/such/run"),
        (["--profile=3"], "--profile is '3'; expected FIRST:LAST"),
        (["--profile=3:9"], "--profile is 3:9; expected FIRST:LAST within the steps 1 to 4"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_leaves_no_checkpoint(refused, tmp_path, settings, message):
    assert message in refused("train", SMOKE, f"--workdir={tmp_path}/run", *settings)
    assert not list(tmp_path.rglob("_CHECKPOINT_METADATA"))


def test_a_workdir_that_cannot_be_made(refused, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused("train", SMOKE, f"--workdir={tmp_path}/file/run")
    assert "cannot write to" in line and "Not a directory" in line


def test_a_missing_config_file(refused, tmp_path):
    line = refused("train", "--config=no/such/file.py:smoke", f"--workdir={tmp_path}")
    assert line == "pdm: there is no config file no/such/file.py; see the files in configs/\n"
