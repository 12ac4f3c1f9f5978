"""Measuring while training: the same number for the same weights, in reports, and the best checkpoint by it."""

import json
import math

import jax
import pytest

from pdm_jax.checkpoints import Checkpoints
from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError
from pdm_jax.evaluation import local_features
from pdm_jax.parallel import make_mesh
from pdm_jax.systems import make_system, parts_of
from pdm_jax.training import train
from pdm_jax.training.measure import make_measure
from tests import tiny
from tests.evaluation.conftest import simple_features

pytestmark = pytest.mark.filterwarnings("ignore:Some donated buffers")


@pytest.fixture(autouse=True)
def optax_promotes():
    with jax.numpy_dtype_promotion("standard"):
        yield


def measure_of(config, tmp_path, mesh=None):
    (part,) = parts_of(config)
    system, mesh = make_system(config), mesh or make_mesh(config.mesh)
    return make_measure(part, system, mesh, tiny.dataset(config), tmp_path), system


def test_nothing_is_measured_unless_asked_for(tmp_path):
    assert measure_of(tiny.config(), tmp_path)[0] is None


@pytest.mark.parametrize("metric", ["loss", "fid"])
def test_a_number_depends_on_the_weights_only(metric, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(
        local_features, "train_local", lambda *args, **kw: trained.append(1) or simple_features("local")
    )
    monkeypatch.setattr(local_features, "save", lambda path, network: None)
    config = tiny.config(eval={"every": 1, "metric": metric, "fixed_num": 16})
    measure, system = measure_of(config, tmp_path)
    params, others = system.init(jax.random.key(0)), system.init(jax.random.key(1))
    value = measure(params)
    assert math.isfinite(value) and measure(params) == value
    assert measure(jax.tree.map(lambda x: x + 0.1, others)) != value
    one = make_mesh(MeshConfig(), jax.devices()[:1])
    assert measure_of(config, tmp_path, one)[0](params) == pytest.approx(value, rel=1e-4)
    assert len(trained) == (2 if metric == "fid" else 0)  # once a measure


def test_the_loss_is_that_of_whole_batches_of_the_fixed_set(tmp_path):
    config = tiny.config(eval={"every": 1, "fixed_num": 8})
    few, system = measure_of(config, tmp_path)
    more, _ = measure_of(tiny.config(eval={"every": 1, "fixed_num": 23}), tmp_path)
    params = system.init(jax.random.key(0))
    assert (
        few(params) != more(params) == measure_of(tiny.config(eval={"every": 1, "fixed_num": 16}), tmp_path)[0](params)
    )


def test_a_run_reports_and_keeps_its_best(tmp_path):
    config = tiny.config(eval={"every": 2, "fixed_num": 8}, checkpoint={"save_every": 100, "keep_last": 1})
    assert train(config, tmp_path, tiny.dataset(config)) == 6
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    scores = {row["step"]: row["eval_loss"] for row in rows}
    assert list(scores) == [2, 4, 6]
    best = min(scores, key=scores.get)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best() == best and checkpoints.steps() == sorted({best, 6})


def test_measuring_changes_nothing_else(tmp_path):
    from tests.training.test_loop import assert_same, final_state

    for name, settings in (("plain", {}), ("measured", {"every": 2, "fixed_num": 8})):
        config = tiny.config(eval=settings)
        train(config, tmp_path / name, tiny.dataset(config))
    assert_same(final_state(tmp_path / "plain"), final_state(tmp_path / "measured"))


def test_metrics_that_do_not_exist(tmp_path):
    with pytest.raises(UserError, match=r"config\.eval\.metric is 'psnr'; expected 'loss' or 'fid'"):
        measure_of(tiny.config(eval={"every": 1, "metric": "psnr"}), tmp_path)
