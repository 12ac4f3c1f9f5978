"""Which programs a config makes, and what becomes of each, with a compiler that is made up."""

import pytest

from pdm_jax.errors import UserError
from pdm_jax.planning import plan as planning
from pdm_jax.planning.batches import LargestBatch
from pdm_jax.planning.plan import plan
from pdm_jax.planning.slices import find_slices
from tests import tiny
from tests.planning.made_up import GIB, measured

SPLIT = {"snr": 0.25, "parts": ({}, {"optimizer": {"learning_rate": 5e-5}, "ema": {"decay": 0.5}})}


@pytest.fixture
def asked(monkeypatch):
    """What the compiler was asked: (kind, batch, blocks, slice). It fits 56 images on v2-8 and refuses v2-512."""
    calls = []

    def measure(kind, config, where, quick):
        batch, blocks = config.data.batch_size, config.model.network["num_blocks"]
        calls.append((kind, batch, blocks, where.name))
        if where.name == "v2-512":
            raise UserError("512 devices are too many")
        peak = (1 + blocks * batch / 8) * GIB
        return measured(batch_size=batch, peak_bytes=peak, fits=peak <= 8 * GIB, state_bytes=GIB, num_parameters=0)

    monkeypatch.setattr(planning, "measure", measure)
    monkeypatch.setattr(planning, "require_libtpu", lambda: None)
    monkeypatch.setattr(planning, "advise", lambda *_: ["advice"])
    return calls


def run(config, names="v2-8", **settings):
    return plan(config, find_slices(names), **{"find_largest": False} | settings)


def test_parts_that_cost_the_same_are_one(asked):
    (report,) = run(tiny.config(split=SPLIT | {"parts": ({}, {"optimizer": {"learning_rate": 5e-5}})}))
    assert report.parts == ("high", "low") and len(asked) == 1


def test_parts_that_differ_are_apart(asked):
    wide = {"model": {"network": {**tiny.SETTINGS["model"]["network"], "num_blocks": 2}}}
    config = tiny.config(split={"snr": 0.25, "parts": ({}, wide)})
    assert [report.parts for report in run(config)] == [("high",), ("low",)]
    assert [report.parts for report in run(config, part="low")] == [("low",)]
    with pytest.raises(UserError, match="this model has no part 'part0'; it has high, low"):
        run(config, part="part0")


def test_what_trains_otherwise_but_does_the_same_work_compiles_once(asked):
    configs = [tiny.config(), tiny.config(seed=3, train={"num_steps": 9}, optimizer={"warmup_steps": 7})]
    assert planning._different_parts(configs[0], None) == planning._different_parts(configs[1], None)


def test_sampling_is_of_the_whole_model(asked):
    (report,) = run(tiny.config(split=SPLIT), sample=16)
    assert asked == [("sample", 16, 1, "v2-8")] and report.parts == ("",)


def test_the_largest_batch(asked):
    (report,) = run(tiny.config(data={"batch_size": 16}), find_largest=True)
    assert report.largest == LargestBatch(56, "confirmed")
    assert [batch for _, batch, _, _ in asked] == [16, 16, 8, 56]


def test_a_quick_estimate_compiles_one_and_two_blocks(asked):
    network = {**tiny.SETTINGS["model"]["network"], "num_blocks": 3}
    (report,) = run(tiny.config(model={"network": network}), quick=True, find_largest=True)
    assert report.is_estimate and report.measured.peak_bytes == 4 * GIB
    assert sorted(blocks for _, _, blocks, _ in asked) == [1, 2]
    assert report.largest == LargestBatch(16, "estimate")  # 1 GiB of state, 3/8 GiB an image, batches of 8


def test_what_is_not_deep_is_compiled_as_it_is(asked):
    (report,) = run(tiny.config(), quick=True)
    assert report.is_estimate and [blocks for _, _, blocks, _ in asked] == [1]


def test_what_does_not_fit_gets_advice(asked):
    fits, too_large = run(tiny.config(data={"batch_size": 64})), run(tiny.config(data={"batch_size": 8}))
    assert [report.advice for report in fits + too_large] == [("advice",), ()]


def test_one_slice_that_does_not_suit_leaves_the_others(asked):
    good, bad = run(tiny.config(), "v2-8,v2-512")
    assert good.measured and bad.problem == "512 devices are too many" and bad.images_per_second is None
    with pytest.raises(UserError, match="512 devices are too many"):
        run(tiny.config(), "v2-512")
