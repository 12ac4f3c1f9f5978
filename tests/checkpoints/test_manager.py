"""Checkpoints: which are kept, what can be read back, and what is said where they are missing or damaged."""

import shutil
import time

import jax
import numpy as np
import pytest

from pdm_jax.checkpoints import Checkpoints
from pdm_jax.config import CheckpointConfig
from pdm_jax.errors import UserError

CONFIG = {"seed": 3, "model": {"channel_mult": [1, 2]}}


def tree(step):
    return {"params": {"w": np.full((3, 2), step, np.float32), "b": np.arange(4)}, "step": np.asarray(step, np.int32)}


def save(workdir, steps, config=None):
    with Checkpoints(workdir, config or CheckpointConfig(keep_last=10)) as checkpoints:
        for step in steps:
            checkpoints.save(step, tree(step), {"position": 8 * step}, {**CONFIG, "seed": step})


def assert_restored(found, step):
    assert found.step == step and found.data == {"position": 8 * step}
    jax.tree.map(np.testing.assert_array_equal, found.state, tree(step))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("saved")
    save(workdir, (2, 4, 6))
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    """A workdir with steps 2, 4 and 6, to do with as a test likes."""
    return shutil.copytree(saved, tmp_path / "run")


def test_the_newest_step_comes_back_as_it_was(workdir):
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.steps() == [2, 4, 6]
        assert_restored(checkpoints.restore(tree(0)), 6)
        assert_restored(checkpoints.restore(tree(0), step=4), 4)
        assert checkpoints.config()["seed"] == 6 and checkpoints.config(2) == {**CONFIG, "seed": 2}


def test_a_step_is_written_once(workdir):
    with Checkpoints(workdir, CheckpointConfig(keep_last=10)) as checkpoints:
        checkpoints.save(6, tree(99), {"position": 0}, CONFIG)
        checkpoints.wait()
        assert_restored(checkpoints.restore(tree(0)), 6)


@pytest.mark.parametrize(
    "keep_last, keep_every, kept",
    [(2, None, [5, 6]), (1, 3, [3, 6]), (2, 2, [2, 4, 5, 6])],
    ids=["last2", "last1-every3", "last2-every2"],
)
def test_what_is_kept(tmp_path, keep_last, keep_every, kept):
    save(tmp_path, range(1, 7), CheckpointConfig(keep_last=keep_last, keep_every=keep_every))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == kept


def test_a_part_is_restored_without_the_rest(workdir):
    with Checkpoints(workdir) as checkpoints:
        part = checkpoints.restore({"params": tree(0)["params"]}, partial=True).state
        assert part.keys() == {"params"}
        jax.tree.map(np.testing.assert_array_equal, part["params"], tree(6)["params"])


@pytest.mark.parametrize(
    "wrong, shape, problem",
    [("w", (5, 5), r"params/w is \(3, 2\), wanted \(5, 5\)"), ("extra", (3,), "params/extra is missing")],
)
def test_another_tree_than_was_saved_is_refused(workdir, wrong, shape, problem):
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), tree(0))
    wanted["params"][wrong] = jax.ShapeDtypeStruct(shape, np.float32, sharding=here)
    with (
        Checkpoints(workdir) as checkpoints,
        pytest.raises(UserError, match="is of another network: " + problem),
    ):
        checkpoints.restore(wanted, step=4)


def test_a_missing_step_says_which_there_are(workdir):
    with Checkpoints(workdir) as checkpoints:
        with pytest.raises(UserError, match="has no checkpoint 5; it has: 2, 4, 6"):
            checkpoints.restore(tree(0), step=5)
        with pytest.raises(UserError, match="has no checkpoint 5; it has: 2, 4, 6"):
            checkpoints.config(5)


def test_an_empty_workdir_says_what_to_do(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match="holds no checkpoint that can be read; train one with: pdm train"):
            checkpoints.config()
        with pytest.raises(UserError, match=r"no checkpoint of .* can be restored: there is none"):
            checkpoints.restore(tree(0))
    assert not list(tmp_path.iterdir())  # reading makes nothing


def truncate(step):
    for path in (step / "state").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_state(step):
    shutil.rmtree(step / "state")


def remove_manifest(step):
    (step / "state/manifest.ocdbt").unlink()


def empty_data(step):
    (step / "data/metadata").write_text("")


@pytest.mark.parametrize("damage", [truncate, remove_state, remove_manifest, empty_data])
def test_a_damaged_step_falls_back_to_the_one_before(workdir, damage, caplog):
    damage(workdir / "checkpoints/6")
    with Checkpoints(workdir, CheckpointConfig(keep_last=10)) as checkpoints:
        assert_restored(checkpoints.restore(tree(0)), 4)
        assert "checkpoint 6 cannot be restored" in caplog.text
        checkpoints.set_aside(after=4)
        assert checkpoints.steps() == [2, 4]
        checkpoints.save(6, tree(6), {"position": 48}, CONFIG)
        checkpoints.wait()
        assert_restored(checkpoints.restore(tree(0)), 6)
    assert (workdir / "damaged-6").is_dir()


def test_a_damaged_step_that_was_asked_for_is_an_error(workdir):
    truncate(workdir / "checkpoints/4")
    with Checkpoints(workdir) as checkpoints, pytest.raises(UserError, match=r"can be restored: .*"):
        checkpoints.restore(tree(0), step=4)


def test_damage_everywhere_is_one_line(workdir):
    for step in (2, 4, 6):
        remove_state(workdir / f"checkpoints/{step}")
    with Checkpoints(workdir) as checkpoints, pytest.raises(UserError, match=r"no checkpoint of .*: .+") as error:
        checkpoints.restore(tree(0))
    assert "\n" not in str(error.value)


def test_an_unfinished_step_is_no_step_and_is_cleaned_up(workdir):
    (workdir / "checkpoints/6/commit_success.txt").unlink()
    (workdir / "checkpoints/6").rename(workdir / "checkpoints/8.orbax-checkpoint-tmp")
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.steps() == [2, 4]
    with Checkpoints(workdir, CheckpointConfig()) as checkpoints:
        assert checkpoints.steps() == [2, 4]
        deadline = time.monotonic() + 30
        while list((workdir / "checkpoints").glob("*tmp*")):  # in the background
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_workdir_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*/file/checkpoints: Not a directory; .*--workdir"):
        Checkpoints(tmp_path / "file", CheckpointConfig())


def scored(workdir, scores, keep_last=2):
    """Steps 1, 2, ... with these scores: numbers of "loss", pairs of a name and a number, or None."""
    with Checkpoints(workdir, CheckpointConfig(keep_last=keep_last)) as checkpoints:
        first = (checkpoints.steps() or [0])[-1] + 1
        for step, score in enumerate(scores, first):
            named = score if score is None or isinstance(score, tuple) else ("loss", score)
            checkpoints.save(step, tree(step), {}, CONFIG, named)


def test_the_best_checkpoint_is_kept(tmp_path):
    scored(tmp_path, [5.0, 3.0, 4.0, None, 6.0, None])
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 5, 6]
        assert checkpoints.best() == checkpoints.find("best") == 2 and checkpoints.find("5") == 5
        assert checkpoints.restore(tree(0)).step == 6  # the newest is still what is gone on with
    scored(tmp_path, [2.5, 9.0, 9.0])
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [7, 8, 9] and checkpoints.best() == 7


def test_scores_of_another_metric_do_not_compete(tmp_path):
    scored(tmp_path, [1.0, ("fid", 80.0), ("fid", 70.0), ("fid", 90.0), None, None])
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [3, 5, 6] and checkpoints.best() == 3


def test_without_scores_there_is_no_best(workdir):
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.best() is None and checkpoints.find(None) is None
        with pytest.raises(UserError, match=r"has a score; train with config\.eval\.every set"):
            checkpoints.find("best")
        with pytest.raises(UserError, match="--step is '-3'; expected a number, or best"):
            checkpoints.find("-3")
