"""The grain pipeline: one stream whatever reads it, exact resumption, broken images."""

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from pdm_jax.config import DataConfig
from pdm_jax.data import make_dataset
from pdm_jax.errors import UserError


def _value_of(index):
    """The grey value of the images in `image_folder`."""
    return 10 + 20 * index


def _config(folder, **changes) -> DataConfig:
    defaults = {"image_size": 4, "batch_size": 4, "crop": "random", "min_crop": 0.5, "flip": True}
    return DataConfig(source=f"folder:{folder}", **(defaults | changes))


def _take(iterator, count: int) -> list[dict]:
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


def _assert_same(left: list[dict], right: list[dict]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_batches(image_folder):
    dataset = make_dataset(_config(image_folder), seed=0)
    assert dataset.num_records == 11
    assert dataset.num_classes == 2
    assert dataset.class_names == ("cat", "dog")
    assert dataset.name == f"folder:{image_folder}"
    for batch in _take(iter(dataset), 6):
        assert {key: (value.dtype, value.shape) for key, value in batch.items()} == {
            "image": (np.uint8, (4, 4, 4, 3)),
            "label": (np.int32, (4,)),
            "index": (np.int64, (4,)),
        }
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], _value_of(batch["index"]))
        np.testing.assert_array_equal(batch["label"], batch["index"] >= 6)


def test_each_epoch_is_the_whole_data_set_in_a_new_order(image_folder):
    indices = np.concatenate([b["index"] for b in _take(iter(make_dataset(_config(image_folder), 0)), 11)])
    epochs = indices.reshape(4, 11)
    for epoch in epochs:
        assert sorted(epoch) == list(range(11))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_hosts_deal_out_the_stream_of_one(tmp_path):
    config = DataConfig("builtin:photos", image_size=8, batch_size=4, crop="random", flip=True)
    alone = _take(iter(make_dataset(config, 5)), 4)
    hosts = [_take(iter(make_dataset(config, 5, process_index=i, process_count=2)), 4) for i in range(2)]
    for whole, *parts in zip(alone, *hosts, strict=True):
        for key in whole:
            np.testing.assert_array_equal(whole[key][0::2], parts[0][key])
            np.testing.assert_array_equal(whole[key][1::2], parts[1][key])


def test_crops_differ_from_epoch_to_epoch_and_seed_to_seed(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "only.png")
    config = _config(tmp_path, batch_size=1, flip=False)
    crops = [b["image"] for seed in (0, 1) for b in _take(iter(make_dataset(config, seed)), 3)]
    assert len({crop.tobytes() for crop in crops}) == 6


def test_resumes_bit_exactly_whatever_the_number_of_workers():
    config = DataConfig("builtin:digits", image_size=8, batch_size=500, crop="random", min_crop=0.5, flip=True)
    expected = _take(iter(make_dataset(config, 3)), 8)  # more than two epochs
    for before, after in ((0, 1), (2, 0)):
        first = iter(make_dataset(dataclasses.replace(config, num_workers=before), 3))
        batches = [next(first) for _ in range(3)]
        state = first.state()  # while the next batches are being prefetched
        first.close()
        second = iter(make_dataset(dataclasses.replace(config, num_workers=after), 3))
        second.restore(state)
        _assert_same(expected, batches + _take(second, 5))
        assert {type(value) for value in batches[0].values()} == {np.ndarray}  # no view of a worker's memory


def test_state_is_refused_by_other_data(image_folder):
    state = iter(make_dataset(_config(image_folder), 0)).state()
    (image_folder / "dog" / "10.png").rename(image_folder / "dog" / "11.png")
    with pytest.raises(UserError, match="fingerprint was"):
        iter(make_dataset(_config(image_folder), 0)).restore(state)
    with pytest.raises(UserError, match="seed was 0, is 1"):
        iter(make_dataset(_config(image_folder), 1)).restore(state)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_broken_images_are_skipped_and_named_once(image_folder, caplog, num_workers):
    for index in (2, 5):
        (image_folder / "cat" / f"{index:02}.png").write_bytes(b"broken")
    dataset = make_dataset(_config(image_folder, num_workers=num_workers), 0)
    with caplog.at_level(logging.WARNING):
        indices = np.concatenate([batch["index"] for batch in _take(iter(dataset), 33)])
    assert set(indices.tolist()) == set(range(11)) - {2, 5}
    messages = sorted(record.getMessage() for record in caplog.records if record.name.startswith("pdm_jax"))
    assert [message.partition(":")[0] for message in messages] == ["skipped cat/02.png", "skipped cat/05.png"]
    assert any("2 of 11 images so far" in message for message in messages)


def test_stream_with_broken_images_resumes_bit_exactly(image_folder):
    (image_folder / "cat" / "00.png").write_bytes(b"broken")
    config = _config(image_folder)
    first = iter(make_dataset(config, 0))
    batches = [next(first) for _ in range(5)]
    second = iter(make_dataset(config, 0))
    second.restore(first.state())
    first.close()
    _assert_same(_take(iter(make_dataset(config, 0)), 10), batches + _take(second, 5))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_once_leaves_broken_images_out_and_fills_batches(image_folder, caplog, num_workers):
    (image_folder / "cat" / "02.png").write_bytes(b"broken")
    dataset = make_dataset(_config(image_folder, num_workers=num_workers), 0)
    with caplog.at_level(logging.WARNING):
        batches = list(dataset.once())
    assert [batch["index"].tolist() for batch in batches] == [[0, 1, 3, 4], [5, 6, 7, 8], [9, 10]]
    for batch in batches:
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], _value_of(batch["index"]))
    assert "skipped cat/02.png" in caplog.text


def test_once_over_hosts_is_the_whole(image_folder):
    config = _config(image_folder, batch_size=6)
    parts = [make_dataset(config, 0, process_index=i, process_count=3).once() for i in range(3)]
    indices = [np.concatenate([batch["index"] for batch in part]).tolist() for part in parts]
    assert indices == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]


def test_channels_and_size():
    for channels in (1, 3):
        dataset = make_dataset(DataConfig("builtin:digits", image_size=16, batch_size=8, channels=channels), 0)
        iterator = iter(dataset)
        assert next(iterator)["image"].shape == (8, 16, 16, channels)
        iterator.close()


@pytest.mark.parametrize("crop", ["center", "random", "stretch"])
def test_rectangles(image_folder, crop):
    for height, width in ((3, 8), (7, 4)):
        dataset = make_dataset(_config(image_folder, image_size=(height, width), crop=crop), 0)
        for batch in (*_take(iter(dataset), 1), next(dataset.once())):
            assert batch["image"].shape == (4, height, width, 3)
            np.testing.assert_array_equal(batch["image"][:, -1, -1, 0], _value_of(batch["index"]))


def test_once_shows_what_the_crop_keeps(tmp_path):
    ramp = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (8, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    spans = {}
    for crop in ("center", "random", "stretch"):
        (batch,) = make_dataset(_config(tmp_path, image_size=8, batch_size=1, crop=crop), 0).once()
        spans[crop] = np.ptp(batch["image"].astype(int))
    assert spans["center"] == spans["random"] == 70 and spans["stretch"] > 190


def test_source_without_a_usable_image(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(UserError, match=r"no usable image among 2.*a\.png"):
        make_dataset(DataConfig(f"folder:{tmp_path}", 4, 1), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 12}, "has 11 images; choose 1 to 11"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"image_size": 0}, "image_size is 0"),
        ({"channels": 4}, "channels is 4"),
        ({"image_size": (4, 0)}, "image_size is \\(4, 0\\)"),
        ({"crop": "middle"}, "expected one of center, random, stretch"),
        ({"min_crop": 0.0}, "min_crop is 0.0"),
        ({"num_workers": -1}, "num_workers is -1"),
    ],
)
def test_mistakes(image_folder, change, message):
    with pytest.raises(UserError, match=message):
        make_dataset(_config(image_folder, **change), 0)


def test_batch_must_divide_by_hosts(image_folder):
    with pytest.raises(UserError, match="3 hosts; choose a multiple"):
        make_dataset(_config(image_folder), 0, process_index=0, process_count=3)


_IDLE = """
import multiprocessing, time
from pdm_jax.config import DataConfig
from pdm_jax.data import make_dataset

if __name__ == "__main__":
    iterator = iter(make_dataset(DataConfig("builtin:digits", image_size=8, batch_size=4, num_workers=1), 0))
    next(iterator)
    print(multiprocessing.active_children()[0].pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_workers_end_when_the_program_is_killed(tmp_path):
    script = tmp_path / "idle.py"
    script.write_text(_IDLE)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as program:
        worker = int(program.stdout.readline())
        os.kill(worker, 0)  # is there
        program.kill()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its program by 10 s")
