"""The table that a person reads, and its JSON."""

import json

import pytest

from pdm_jax.planning.advice import Use
from pdm_jax.planning.batches import LargestBatch
from pdm_jax.planning.plan import Report
from pdm_jax.planning.roofline import bound_of
from pdm_jax.planning.slices import find_slices
from pdm_jax.planning.table import as_json, table
from tests.planning.made_up import GIB, measured


def report(name="v2-8", *, parts=("high", "low"), kind="train", largest=None, advice=(), is_estimate=False, **changes):
    (where,) = find_slices(name)
    result = measured(**changes)
    bound = bound_of(result, where)
    return Report(parts, kind, where, result, bound, largest, advice, is_estimate)


def line(text, name):
    (found,) = [each for each in text.splitlines() if each.startswith(name)]
    return found.split(name)[1].split("  ")[1:]


def test_a_column_a_slice():
    text = table(
        [report(largest=LargestBatch(312, "confirmed")), report("v5e-8", largest=LargestBatch(900, "at least"))]
    )
    head, *rows = text.splitlines()
    assert head == "training step of high, low: 268,435,456 parameters each"
    assert rows[1].split() == ["v2-8", "v5e-8"]
    assert len({len(row) for row in rows[1:22]}) == 1, "columns are not aligned"
    cells = {name: [cell.strip() for cell in line(text, name) if cell] for name in ("fits", "largest batch")}
    assert cells == {"fits": ["yes", "yes"], "largest batch": ["312", ">=900"]}
    assert "1.100x" in text and "9.00 GiB" in text and "2 x, 1 GB" in text and "110 (64)" in text
    assert "48.89 ms" in text and "5.24e+03" in text  # 1.1e12 FLOPs at 22.5 TFLOP/s, 256 images
    assert "a bound" in text and "not a promise" in text and "estimate" not in text


def test_what_does_not_fit_says_what_would_help():
    nothing = {"fits": False, "available_bytes": 7.5 * GIB, "flops": None, "bytes_accessed": None, "collectives": {}}
    advice = (Use(GIB, GIB, 4 * GIB, ("config.mesh.fsdp=8", "config.ema.place=host")),)
    text = table([report(advice=advice, largest=LargestBatch(0, "at least"), **nothing)])
    assert "no, 7.50 GiB free" in text and "none found" in text
    assert "v2-8: does not fit; it may with:\n  --config.mesh.fsdp=8 --config.ema.place=host: about 6.00 GiB" in text
    assert "take more devices or fewer images" in table([report(**nothing)])


def test_sampling_is_told_a_step():
    text = table([report(kind="sample", parts=("",), num_steps=50, unknown_loops=1)])
    assert text.startswith("sampling: 268,435,456 parameters, 50 steps an image, of which one is shown")
    assert "22 G" in text and "20 G" in text and "0.9778 ms" in text
    assert "5.24e+03" in text  # all steps of 256 images in one call
    assert "v2-8: 1 loops of unknown length" in text


def test_parts_that_differ_have_blocks_of_their_own():
    text = table([report(parts=("high",)), report(parts=("low",)), report("v2-32", parts=("low",))])
    assert text.index("training step of high:") < text.index("training step of low:")
    assert text.count("\ndevices ") == 2 and text.count("v2-32") == 1


def test_a_slice_that_the_config_does_not_fit_is_a_remark():
    problem = Report(("",), "train", find_slices("v5e-256")[0], problem="a batch of 64 is too small")
    text = table([report(parts=("",)), problem])
    assert "\nv5e-256: a batch of 64 is too small" in text


def test_an_estimate_is_called_one():
    assert "--quick: an estimate, by the compiler" in table([report(is_estimate=True)])


def test_json_holds_all_numbers():
    (found,) = json.loads(json.dumps(as_json([report()])))
    assert (found["topology"], found["measured"]["peak_bytes"], found["limit"]) == ("v2-8", 9 * GIB, "compute")
    assert found["images_per_second"] == pytest.approx(256 / found["bound_seconds"])
    assert found["where"]["chip"]["flops"] == 45e12
