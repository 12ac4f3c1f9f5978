"""Latents encoded once: what is written is what is read, with all that belongs to the images."""

import dataclasses
import itertools
import logging

import numpy as np
import pytest

from pdm_jax.config import DataConfig
from pdm_jax.data import TaskInputs, make_dataset
from pdm_jax.data.encode import encode_source
from pdm_jax.data.record import FIELDS
from pdm_jax.data.sources import open_source
from pdm_jax.errors import UserError

_CONFIG = DataConfig("builtin:scenes", image_size=32, batch_size=6, flip=True)


class _Some:
    """The first records of a source."""

    def __init__(self, source, count):
        self._source, self._count = source, count

    def __getattr__(self, name):
        return getattr(self._source, name)

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        return self._source[index]


def _halves(images: np.ndarray) -> np.ndarray:
    """A first stage: means of 4x4 pixels and, as log variances, their negatives."""
    batch, height, width, channels = images.shape
    mean = images.reshape(batch, height // 4, 4, width // 4, 4, channels).mean((2, 4), np.float32) / 255
    return np.concatenate([mean, -mean], axis=-1)


def _encode(path, config=_CONFIG, **options):
    source = _Some(open_source(config.source, fields=FIELDS), 20)
    return encode_source(source, config, _halves, "f00", path, **options)


@pytest.fixture
def latents(tmp_path):
    path = tmp_path / "scenes.array_record"
    assert _encode(path) == (20, 0)
    return dataclasses.replace(_CONFIG, source=f"latents:{path}")


def test_moments_are_those_of_the_images_and_of_their_mirror_images(latents):
    dataset, images = make_dataset(latents, 0), make_dataset(_CONFIG, 0)
    assert (dataset.num_records, dataset.first_stage, images.first_stage) == (20, "f00", None)
    iterator, seen = iter(dataset), set()
    wanted = np.concatenate([batch["image"] for batch in itertools.islice(images.once(), 4)])
    for _ in range(20):
        batch = next(iterator)
        assert {key: (value.dtype, value.shape) for key, value in batch.items()} == {
            "moments": (np.float32, (6, 8, 8, 6)),
            "index": (np.int64, (6,)),
        }
        for index, moments in zip(batch["index"], batch["moments"], strict=True):
            both = _halves(np.stack([wanted[index], wanted[index][:, ::-1]]))
            error = np.abs(moments - both).max((1, 2, 3))
            assert error.min() < 1e-3  # float16
            seen.add(int(error.argmin()))
    iterator.close()
    assert seen == {0, 1}
    still = np.concatenate([batch["moments"] for batch in dataset.once()])
    np.testing.assert_allclose(still, _halves(wanted[:20]), atol=1e-3)


def test_workers_and_hosts_share_the_stream(latents):
    first = [next(iter(make_dataset(dataclasses.replace(latents, num_workers=n), 3))) for n in (0, 1)]
    part = next(iter(make_dataset(latents, 3, process_index=1, process_count=2)))
    for name, value in first[0].items():
        np.testing.assert_array_equal(value, first[1][name])
        np.testing.assert_array_equal(value[1::2], part[name])


def test_tasks_are_told_as_of_images(latents, tokenizer_file):
    inputs = TaskInputs(("text", "layout", "semantic"), str(tokenizer_file), max_length=12)
    images, encoded = (next(make_dataset(config, 0, inputs).once()) for config in (_CONFIG, latents))
    for name in ("tokens", "map", "index"):
        np.testing.assert_array_equal(encoded[name], images[name])
    iterator = iter(make_dataset(latents, 0, inputs))
    first = next(iterator)
    state, second = iterator.state(), next(iterator)
    iterator.close()
    again = iter(make_dataset(latents, 0, inputs))
    again.restore(state)
    for name, value in next(again).items():
        np.testing.assert_array_equal(value, second[name])
    again.close()
    ink = first["moments"][..., 0].repeat(4, 1).repeat(4, 2) > 0  # grey where the map has classes
    assert ink[first["map"] > 0].mean() > 0.99


def test_a_run_does_not_go_on_with_latents_of_another_first_stage(latents, tmp_path):
    state = iter(make_dataset(latents, 0)).state()
    path = tmp_path / "scenes.array_record"
    encode_source(_Some(open_source(_CONFIG.source, fields=FIELDS), 20), _CONFIG, _halves, "f01", path, force=True)
    with pytest.raises(UserError, match="fingerprint was"):
        iter(make_dataset(latents, 0)).restore(state)


def test_float32_keeps_every_bit(tmp_path):
    path = tmp_path / "a.array_record"
    _encode(path, dtype="float32")
    batch = next(make_dataset(dataclasses.replace(_CONFIG, source=f"latents:{path}"), 0).once())
    images = next(make_dataset(_CONFIG, 0).once())["image"]
    np.testing.assert_array_equal(batch["moments"], _halves(images))


def test_broken_images_are_skipped(image_folder, tmp_path, caplog):
    (image_folder / "cat" / "03.png").write_bytes(b"broken")
    config = DataConfig(f"folder:{image_folder}", 4, 4)
    with caplog.at_level(logging.WARNING):
        assert encode_source(open_source(config.source), config, _halves, "f00", tmp_path / "a.array_record") == (10, 1)
    assert "skipped cat/03.png" in caplog.text
    batches = list(make_dataset(dataclasses.replace(config, source=f"latents:{tmp_path}/a.array_record"), 0).once())
    assert np.concatenate([batch["label"] for batch in batches]).tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 64}, r"image_size = \[32, 32\], the run has \[64, 64\]"),
        ({"crop": "stretch"}, "config.data.crop = 'center', the run has 'stretch'"),
        ({"channels": 1}, "channels = 3"),
        ({"batch_size": 21}, "choose 1 to 20"),
    ],
)
def test_other_settings_are_refused(latents, change, message):
    with pytest.raises(UserError, match=message):
        make_dataset(dataclasses.replace(latents, **change), 0)


def test_mistakes(tmp_path, latents):
    path = tmp_path / "unflipped.array_record"
    _encode(path, dataclasses.replace(_CONFIG, flip=False))
    with pytest.raises(UserError, match=r"flip = False, the run has True; encode again"):
        make_dataset(dataclasses.replace(_CONFIG, source=f"latents:{path}"), 0)
    for inputs in (TaskInputs(("inpaint",)), TaskInputs(("superres",))):
        with pytest.raises(UserError, match="needs images"):
            make_dataset(latents, 0, inputs)
    with pytest.raises(UserError, match="encoded once; use 'center'"):
        _encode(tmp_path / "b.array_record", dataclasses.replace(_CONFIG, crop="random"))
    with pytest.raises(UserError, match="--force"):
        _encode(path)
    with pytest.raises(UserError, match="choose float16 or float32"):
        _encode(tmp_path / "b.array_record", dtype="int8")
    with pytest.raises(UserError, match=r"`pdm data encode --config=CONFIG .*none"):
        make_dataset(dataclasses.replace(_CONFIG, source=f"latents:{tmp_path}/none"), 0)
    with pytest.raises(UserError, match=r"has the format pdm_jax\.latents\.1"):
        open_source(f"arrayrecord:{path}")
