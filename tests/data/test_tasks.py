"""What tasks need, in batches: right for the image that is seen, the same again after resuming, on any hosts."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pdm_jax.config import DataConfig
from pdm_jax.data import TaskInputs, make_dataset
from pdm_jax.data.degradations import degrade
from pdm_jax.data.readers import ImageReader, TaskReader
from pdm_jax.data.record import Record
from pdm_jax.data.sources import open_source
from pdm_jax.data.tasks import KINDS
from pdm_jax.data.tokenizer import load_tokenizer
from pdm_jax.data.transforms import CROPS, ImageTransform
from pdm_jax.errors import UserError

_SCENES = DataConfig("builtin:scenes", image_size=16, batch_size=6, crop="random", min_crop=0.5, flip=True)
_TOLD = tuple(kind for kind in KINDS if kind != "class")


def _inputs(tokenizer_file, *kinds, **changes) -> TaskInputs:
    return TaskInputs(kinds or _TOLD, tokenizer=str(tokenizer_file), max_length=16, max_objects=5, **changes)


def _take(dataset, count, state=None):
    iterator = iter(dataset)
    if state is not None:
        iterator.restore(state)
    batches = [next(iterator) for _ in range(count)]
    state = iterator.state()
    iterator.close()
    return batches, state


def _assert_same(left, right):
    assert len(left) == len(right) > 0
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_batches_hold_what_the_kinds_say(tokenizer_file):
    dataset = make_dataset(_SCENES, 0, _inputs(tokenizer_file))
    wanted = {
        "image": (np.uint8, (6, 16, 16, 3)),
        "index": (np.int64, (6,)),
        "tokens": (np.int32, (6, 16)),
        "layout": (np.int32, (6, 17)),
        "map": (np.uint8, (6, 16, 16)),
        "low": (np.uint8, (6, 4, 4, 3)),
        "mask": (np.uint8, (6, 16, 16, 1)),
    }
    for batch in (*_take(dataset, 1)[0], next(dataset.once())):
        assert {name: (value.dtype, value.shape) for name, value in batch.items()} == wanted
        assert set(np.unique(batch["mask"])) == {0, 1}
        for low, image in zip(batch["low"], batch["image"], strict=True):
            np.testing.assert_array_equal(low, degrade(image, 4, "bicubic", np.random.default_rng(0)))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_resuming_is_exact_with_every_task(tokenizer_file, num_workers):
    inputs = _inputs(tokenizer_file, degradation="bsr")
    config = dataclasses.replace(_SCENES, num_workers=num_workers)
    expected, _ = _take(make_dataset(_SCENES, 3, inputs), 6)
    first, state = _take(make_dataset(config, 3, inputs), 3)
    second, _ = _take(make_dataset(config, 3, inputs), 3, state)
    _assert_same(expected, first + second)


def test_hosts_share_the_stream(tokenizer_file):
    inputs = _inputs(tokenizer_file)
    (whole,), _ = _take(make_dataset(_SCENES, 3, inputs), 1)
    parts = [_take(make_dataset(_SCENES, 3, inputs, process_index=i, process_count=3), 1)[0][0] for i in range(3)]
    for i, part in enumerate(parts):
        _assert_same([part], [{name: value[i::3] for name, value in whole.items()}])


def test_tasks_change_neither_images_nor_their_order(tokenizer_file):
    plain, _ = _take(make_dataset(_SCENES, 3), 3)
    tasks, _ = _take(make_dataset(_SCENES, 3, _inputs(tokenizer_file)), 3)
    _assert_same(plain, [{name: batch[name] for name in ("image", "index")} for batch in tasks])


def test_each_epoch_draws_anew_and_the_single_pass_does_not(image_folder):
    config, inputs = DataConfig(f"folder:{image_folder}", image_size=16, batch_size=11), TaskInputs(("inpaint",))
    dataset = make_dataset(config, 0, inputs)
    epochs, _ = _take(dataset, 2)
    first, second = (epoch["mask"][np.argsort(epoch["index"])] for epoch in epochs)
    assert (first != second).any((1, 2, 3)).mean() > 0.9
    _assert_same(list(dataset.once()), list(make_dataset(config, 1, inputs).once()))


@settings(deadline=None, max_examples=60)
@given(
    sides=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    scale=st.integers(1, 3),
    size=st.tuples(st.integers(2, 16), st.integers(2, 16)),
    crop=st.sampled_from(CROPS),
    flip=st.booleans(),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_image_map_and_boxes_show_the_same(sides, scale, size, crop, flip, seed, data):
    """A bright box on black: where it is seen it is of its class on the map, and its tokens are around it."""
    height, width = sides
    left, right = sorted(data.draw(st.tuples(*[st.integers(0, width)] * 2)))
    top, bottom = sorted(data.draw(st.tuples(*[st.integers(0, height)] * 2)))
    pixels = np.zeros((height, width), np.uint8)
    pixels[top:bottom, left:right] = 255
    classes = (pixels // 255 * 7).repeat(scale, 0).repeat(scale, 1)
    box = left / width, top / height, (right - left) / width, (bottom - top) / height
    record = Record(pixels, 0, "x", None, None, ({"class": 1, "box": list(box)},), classes)
    inputs = TaskInputs(("layout", "semantic"), object_classes=2, max_objects=1)
    reader = ImageReader(ImageTransform(size, 1, crop, 0.3, flip), TaskReader(inputs, open_source("builtin:digits")))
    element = reader(record, np.random.default_rng(seed))
    image, seen = element["image"][..., 0], element["map"] == 7
    near = np.pad(seen, 1, mode="edge")
    near = np.stack([near[i : i + size[0], j : j + size[1]] for i in range(3) for j in range(3)])
    assert (image[near.all(0)] > 100).all() and (image[~near.any(0)] < 155).all()  # the edges are blurred
    objects, window = inputs.layout_codec(()).decode(element["layout"])
    if not objects:
        assert not seen.any()
    for axis, places in enumerate(np.nonzero(seen)[::-1] if seen.any() else ()):
        start, length = objects[0].box[axis], objects[0].box[axis + 2]
        low, high = ((edge - window[axis]) / window[axis + 2] for edge in (start, start + length))
        tolerance = 1.01 / 89 / window[axis + 2]  # of four corners on a grid of 90
        centres = (places + 0.5) / size[1 - axis]
        next_to = 1 / size[1 - axis] + tolerance
        assert max(low, 0) - tolerance <= centres.min() <= max(low, 0) + next_to
        assert min(high, 1) - next_to <= centres.max() <= min(high, 1) + tolerance


def test_a_caption_is_any_in_training_and_the_first_in_the_single_pass(tokenizer_file):
    dataset = make_dataset(dataclasses.replace(_SCENES, batch_size=512), 0, _inputs(tokenizer_file, "text"))
    scenes, tokenizer = open_source("builtin:scenes"), load_tokenizer(tokenizer_file, 16)

    def places(batch):
        for index, tokens in zip(batch["index"], batch["tokens"], strict=True):
            captions = [tokenizer(caption).tolist() for caption in scenes[int(index)].captions]
            if len(captions) > 1:
                yield captions.index(tokens.tolist())

    (batch,), _ = _take(dataset, 1)
    assert 0.3 < np.mean(list(places(batch))) < 0.7
    assert set(places(next(dataset.once()))) == {0}


def test_broken_maps_are_skipped_and_change_nothing_else(image_folder, tokenizer_file, caplog):
    for path in image_folder.rglob("*.png"):
        target = image_folder.parent / "maps" / path.relative_to(image_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() if path.stem == "03" else b"")
        if path.stem != "03":
            Image.new("L", (8, 6), int(path.stem)).save(target)
    config = DataConfig(f"folder:{image_folder}", 4, 4, crop="random", flip=True)
    inputs = TaskInputs(("semantic", "class"))
    expected, _ = _take(make_dataset(config, 0, inputs), 12)
    for batch in expected:
        np.testing.assert_array_equal(batch["map"][:, 0, 0], batch["index"])
        np.testing.assert_array_equal(batch["label"], batch["index"] >= 6)
    assert "skipped the class map of cat/03.png: has the mode RGB" in caplog.text
    first, state = _take(make_dataset(config, 0, inputs), 7)
    second, _ = _take(make_dataset(config, 0, inputs), 5, state)
    _assert_same(expected, first + second)


def test_class_names_of_a_folder_number_its_layouts(image_folder, tokenizer_file):
    lines = [{"file": f"cat/{i:02}.png", "objects": [{"class": "eye", "box": [0, 0, 1, 1]}]} for i in range(6)]
    lines += [{"file": f"dog/{i:02}.png", "objects": []} for i in range(6, 11)]
    (image_folder / "layouts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config, inputs = DataConfig(f"folder:{image_folder}", 4, 11), TaskInputs(("layout",), max_objects=1)
    with pytest.raises(UserError, match=r"how many classes of objects there are is not known; list .* classes\.txt"):
        make_dataset(config, 0, inputs)
    (image_folder / "classes.txt").write_text("nose\neye\n")
    (batch,) = make_dataset(config, 0, inputs).once()
    assert batch["layout"][:, 0].tolist() == [1] * 6 + [8191] * 5
    (image_folder / "classes.txt").write_text("nose\near\n")
    with pytest.raises(UserError, match=r"object 1 of the layout of cat/00\.png is of the class 'eye'"):
        make_dataset(config, 0, inputs)


@pytest.mark.parametrize(
    ("source", "inputs", "message"),
    [
        ("builtin:photos", TaskInputs(("semantic",)), r"2304 of 2304 images in builtin:photos have no class map"),
        ("builtin:photos", TaskInputs(("class",)), "builtin:photos has no classes"),
        ("builtin:digits", TaskInputs(("layout",)), r"have no layout .*: digits/0, digits/1, digits/2, \.\.\."),
        ("builtin:digits", TaskInputs(("superres",), factor=3), "cannot become 3 times smaller"),
        ("builtin:digits", TaskInputs(("superres",), degradation="worse"), "cannot be degraded by 'worse'"),
        ("builtin:digits", TaskInputs(("inpaint",), mask="huge"), "there are no masks 'huge'"),
        ("builtin:digits", TaskInputs(("text",), tokenizer="none.json"), "tokeniser none.json cannot be read"),
    ],
)
def test_what_is_lacking_or_wrong_is_one_line_at_once(source, inputs, message):
    with pytest.raises(UserError, match=message) as error:
        make_dataset(DataConfig(source, 16, 4), 0, inputs)
    assert "\n" not in str(error.value)


def test_inputs_are_checked():
    with pytest.raises(UserError, match=r"kinds has 'sound'; expected some of class, text"):
        TaskInputs(("sound",))
    with pytest.raises(UserError, match="captions need a tokeniser"):
        TaskInputs(("text",))
