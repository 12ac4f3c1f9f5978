"""The loop: resuming is exact, whatever ended the run; reports and checkpoints are there; mistakes are one line."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from pdm_jax.checkpoints import Checkpoints
from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.systems import make_system, parts_of
from pdm_jax.training import train
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.resume import begin, check_config, load_weights
from pdm_jax.training.state import plan_state
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore:Some donated buffers")


@pytest.fixture(autouse=True)
def optax_promotes():
    with jax.numpy_dtype_promotion("standard"):
        yield


def final_state(workdir, step=None):
    """All arrays of a checkpoint as numpy, by path."""
    with Checkpoints(workdir) as checkpoints:
        step = step or checkpoints.steps()[-1]
    folder = Path(workdir).resolve() / "checkpoints" / str(step) / "state"
    with ocp.PyTreeCheckpointer() as reader:
        saved = reader.metadata(folder).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        tree = reader.restore(folder, restore_args=as_numpy)
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def one_part(config):
    (part,) = parts_of(config)
    return part


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


class Interrupting:
    """A data set that calls a function before it gives batch number `at`."""

    def __init__(self, inner, at, action):
        self.inner, self.at, self.action = inner, at, action

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __iter__(self):
        return _Interrupting(iter(self.inner), self.at, self.action)


class _Interrupting:
    def __init__(self, inner, at, action):
        self.inner, self.at, self.action, self.count = inner, at, action, 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __next__(self):
        if self.count == self.at:
            self.action()
        self.count += 1
        return next(self.inner)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A run of six steps with checkpoints at 3 and 6 and a grid at the end."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    config = tiny.config(train={"grid_every": 6})
    with jax.numpy_dtype_promotion("standard"):
        assert train(config, workdir, tiny.dataset(config)) == 6
    return workdir


def test_a_run_leaves_checkpoints_reports_and_a_grid(uninterrupted):
    with Checkpoints(uninterrupted) as checkpoints:
        assert checkpoints.steps() == [3, 6]
    rows = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6]
    wanted = {"loss", "simple", "vlb", "grad_norm", "update_norm", "param_norm", "images_per_s", "step_ms"}
    assert all(wanted <= row.keys() for row in rows)
    assert list(uninterrupted.glob("events.out.tfevents.*"))
    assert (uninterrupted / "grids/00000006.png").stat().st_size > 100
    assert "conv_in/kernel" in (uninterrupted / "parameters.txt").read_text()


def test_a_run_that_stops_and_goes_on_is_bit_identical(uninterrupted, tmp_path):
    config = tiny.config()
    dataset = Interrupting(tiny.dataset(config), 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train(config, tmp_path, dataset) == 5  # the step under way is finished and saved
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [3, 5]
    assert train(config, tmp_path, tiny.dataset(config)) == 6
    assert_same(final_state(uninterrupted), final_state(tmp_path))
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_a_crash_between_checkpoints_loses_nothing(uninterrupted, tmp_path):
    def crash():
        raise RuntimeError("power cut")

    config = tiny.config()
    with pytest.raises(RuntimeError, match="power cut"):
        train(config, tmp_path, Interrupting(tiny.dataset(config), 5, crash))
    assert train(config, tmp_path, tiny.dataset(config)) == 6
    assert_same(final_state(uninterrupted), final_state(tmp_path))


def test_a_damaged_newest_step_falls_back(uninterrupted, tmp_path, caplog):
    config = tiny.config()
    train(config, tmp_path, tiny.dataset(config))
    for path in (tmp_path / "checkpoints/6/state/d").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert train(config, tmp_path, tiny.dataset(config)) == 6
    assert "checkpoint 6 cannot be restored" in caplog.text
    assert (tmp_path / "damaged-6").is_dir()
    assert_same(final_state(uninterrupted), final_state(tmp_path))


def test_flipped_bits_are_damage(uninterrupted, tmp_path, caplog):
    shutil.copytree(uninterrupted / "checkpoints", tmp_path / "checkpoints")
    largest = max((tmp_path / "checkpoints/6/state/ocdbt.process_0/d").iterdir(), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    for place in range(len(content) // 16, len(content), len(content) // 8):  # one of them may lie between arrays
        content[place] ^= 1
    largest.write_bytes(content)
    config = tiny.config()
    system, mesh = make_system(config), make_mesh(config.mesh)
    plan = plan_state(system, make_optimizer(config.optimizer), config.ema, mesh)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(plan.shapes.as_dict()).step == 3
    assert "checkpoint 6 cannot be restored" in caplog.text


def test_weights_of_another_network_are_refused_by_name(uninterrupted):
    network = {**tiny.SETTINGS["model"]["network"], "learn_variance": False}
    config = tiny.config(model={"network": network}, loss={"vlb_weight": 0.0})
    system, mesh = make_system(config), make_mesh(config.mesh)
    plan = plan_state(system, make_optimizer(config.optimizer), config.ema, mesh)
    with pytest.raises(UserError, match=r"is of another network: ema/network/variance_head/\S+ has no place"):
        load_weights(str(uninterrupted), plan.shapes.params)


def test_a_run_can_go_on_with_other_optimiser_settings(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted / "checkpoints", tmp_path / "checkpoints")
    config = tiny.config(optimizer={"clip_norm": None, "warmup_steps": 0})
    system, mesh = make_system(config), make_mesh(config.mesh)
    plan = plan_state(system, make_optimizer(config.optimizer), config.ema, mesh)
    with Checkpoints(tmp_path, config.checkpoint) as checkpoints:
        assert begin(one_part(config), plan, checkpoints, iter(tiny.dataset(config)), force_config=True).step == 6


def test_a_finished_run_is_left_alone(uninterrupted):
    before = final_state(uninterrupted)
    config = tiny.config()
    assert train(config, uninterrupted, tiny.dataset(config)) == 6
    assert_same(before, final_state(uninterrupted))


def test_a_changed_config_is_refused_by_name_or_forced(uninterrupted, caplog):
    changed = tiny.config(optimizer={"learning_rate": 5e-4}, train={"log_every": 1})
    with Checkpoints(uninterrupted) as checkpoints:
        with pytest.raises(
            UserError, match=r"config.optimizer.learning_rate: 0.001 -> 0.0005.*--force-config"
        ) as error:
            check_config(checkpoints, one_part(changed), force=False)
        assert "log_every" not in str(error.value)  # changes nothing that is trained
        check_config(checkpoints, one_part(changed), force=True)
        check_config(checkpoints, one_part(tiny.config(train={"log_every": 1, "num_steps": 60})), force=False)
    assert "going on with a changed config: config.optimizer.learning_rate" in caplog.text


def test_nan_stops_the_run_and_keeps_the_last_sound_checkpoint(tmp_path):
    config = tiny.config(optimizer={"learning_rate": 1e30, "warmup_steps": 0, "clip_norm": None})
    with pytest.raises(UserError, match=r"became (nan|inf).*lower config.optimizer.learning_rate"):
        train(config, tmp_path, tiny.dataset(config))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == []


def test_a_host_ema_run_resumes_exactly(tmp_path):
    config = tiny.config(ema={"place": "host", "every": 2}, checkpoint={"save_every": 3})
    train(config, tmp_path / "whole", tiny.dataset(config))
    train(
        dataclasses.replace(config, train=tiny.config(train={"num_steps": 3}).train),
        tmp_path / "b",
        tiny.dataset(config),
    )
    train(config, tmp_path / "b", tiny.dataset(config))
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "b"))


def test_init_from_starts_with_the_averaged_weights(uninterrupted, tmp_path):
    config = tiny.config(seed=7)
    system, mesh = make_system(config), make_mesh(config.mesh)
    plan = plan_state(system, make_optimizer(config.optimizer), config.ema, mesh)
    with Checkpoints(tmp_path, config.checkpoint) as checkpoints:
        batches = iter(tiny.dataset(config))
        start = begin(
            one_part(config), plan, checkpoints, batches, weights=lambda like: load_weights(str(uninterrupted), like)
        )
    source = final_state(uninterrupted)
    assert start.step == 0
    for tree in ("params", "ema"):
        for path, x in jax.tree_util.tree_leaves_with_path(getattr(start.state, tree)):
            name = "".join(f"['{key.key}']" for key in path)
            np.testing.assert_array_equal(x, source[f"['ema']{name}"])


def test_classes_must_fit_the_data(tmp_path):
    config = tiny.config(model={"num_classes": 5})
    with pytest.raises(UserError, match=r"num_classes is 5, but .* has 2 classes; set it to 2"):
        train(config, tmp_path, tiny.dataset(config))
    assert not list(Path(tmp_path).iterdir())


def test_a_workdir_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    config = tiny.config()
    with pytest.raises(UserError, match=r"cannot write to .*file/run/checkpoints: Not a directory"):
        train(config, tmp_path / "file" / "run", tiny.dataset(config))
