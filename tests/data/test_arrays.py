"""The endless stream and the single pass over arrays in memory; the contract that every data set keeps."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdm_jax.data import ArrayDataset
from pdm_jax.errors import UserError


def _dataset(count: int, batch_size: int, seed: int = 0, **options) -> ArrayDataset:
    images = np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1) * np.ones((2, 2, 3), np.uint8)
    return ArrayDataset(images, np.arange(count) % 3, batch_size, seed, class_names="abc", **options)


def _take(iterator, count: int) -> list[dict]:
    return [next(iterator) for _ in range(count)]


def test_batches_hold_matching_images_labels_and_indices():
    dataset = _dataset(10, 4)
    assert (dataset.num_records, dataset.num_classes, dataset.class_names) == (10, 3, ("a", "b", "c"))
    for batch in _take(iter(dataset), 5):
        assert {key: (value.dtype, value.shape) for key, value in batch.items()} == {
            "image": (np.uint8, (4, 2, 2, 3)),
            "label": (np.int32, (4,)),
            "index": (np.int64, (4,)),
        }
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["index"])
        np.testing.assert_array_equal(batch["label"], batch["index"] % 3)


def test_unlabelled():
    dataset = ArrayDataset(np.zeros((4, 2, 2, 1), np.uint8), None, 2, 0)
    assert dataset.num_classes == 0
    assert set(next(iter(dataset))) == {"image", "index"}


def test_arrays_of_tasks_come_with_their_images():
    tokens = np.stack([np.arange(10), 2 * np.arange(10)], 1).astype(np.int32)
    inputs = {"tokens": tokens, "map": np.zeros((10, 2, 2), np.uint8)}
    for batch in _take(iter(_dataset(10, 4, inputs=inputs)), 3):
        np.testing.assert_array_equal(batch["tokens"], np.stack([batch["index"], 2 * batch["index"]], 1))
        assert batch["map"].shape == (4, 2, 2)
    for wrong in (
        {"tokens": inputs["tokens"][:9]},
        {"tokens": inputs["tokens"].astype(np.int64)},
        {"words": inputs["tokens"]},
    ):
        with pytest.raises(UserError, match=r"for 10 images; expected one row each of tokens int32, layout int32"):
            _dataset(10, 4, inputs=wrong)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 5), st.integers(0, 99), st.integers(0, 12))
def test_hosts_share_epochs_of_the_same_stream_and_any_place_can_be_resumed(count, hosts, part, seed, skip):
    batch_size = hosts * part
    if batch_size > count:
        return
    alone = iter(_dataset(count, batch_size, seed))
    together = [iter(_dataset(count, batch_size, seed, process_index=i, process_count=hosts)) for i in range(hosts)]
    stream = []
    for _ in range(skip + 3):
        dealt = np.stack([next(host)["index"] for host in together], axis=1).reshape(-1)
        np.testing.assert_array_equal(dealt, next(alone)["index"])
        stream.extend(dealt.tolist())
    for start in range(0, len(stream) - count + 1, count):
        assert sorted(stream[start : start + count]) == list(range(count))
    resumed = iter(_dataset(count, batch_size, seed))
    resumed.restore({**alone.state(), "position": skip * batch_size})
    indices = [int(index) for batch in _take(resumed, 3) for index in batch["index"]]
    assert indices == stream[skip * batch_size :]


def test_epochs_and_seeds_differ():
    orders = [[int(b["index"][0]) for b in _take(iter(_dataset(30, 1, seed)), 60)] for seed in (0, 1)]
    assert len({tuple(order) for order in (orders[0][:30], orders[0][30:], orders[1][:30], orders[1][30:])}) == 4


def test_state_is_json_and_close_keeps_the_place():
    iterator, other = iter(_dataset(10, 4)), iter(_dataset(10, 4))
    _take(iterator, 3)
    other.restore(json.loads(json.dumps(iterator.state())))
    iterator.close()
    np.testing.assert_array_equal(next(iterator)["index"], next(other)["index"])
    assert iterator.state() == other.state()


@pytest.mark.parametrize("other", [_dataset(11, 4), _dataset(10, 4, seed=1)])
def test_state_of_other_data_is_refused(other):
    with pytest.raises(UserError, match=r"(num_records|seed) was .*, is"):
        iter(_dataset(10, 4)).restore(iter(other).state())


def test_once_goes_through_each_record_in_order():
    batches = list(_dataset(10, 4).once())
    assert [batch["index"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    second = _dataset(10, 4, process_index=1, process_count=2).once()
    assert [batch["index"].tolist() for batch in second] == [[1, 3], [5, 7], [9]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 11}, "choose 1 to 10"),
        ({"batch_size": 0}, "choose 1 to 10"),
        ({"process_count": 3}, "3 hosts; choose a multiple"),
        ({"images": np.zeros((10, 2, 2, 3))}, "expected uint8"),
        ({"labels": np.zeros(9, int)}, "expected one each"),
        ({"labels": np.full(10, 3), "class_names": "abc"}, "expected 0 to 2"),
    ],
)
def test_mistakes(change, message):
    options = {"images": np.zeros((10, 2, 2, 3), np.uint8), "labels": None, "batch_size": 4, "seed": 0} | change
    with pytest.raises(UserError, match=message):
        ArrayDataset(**options)


def test_memory_path_needs_numpy_only():
    code = "import sys, pdm_jax.data; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert "numpy" in loaded
    assert not loaded & {"grain", "PIL", "jax", "absl", "array_record", "tensorflow_datasets", "sklearn", "skimage"}
