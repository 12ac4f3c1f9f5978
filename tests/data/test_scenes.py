"""The built-in scenes: the same at every opening, and caption, layout and map say the same of each."""

import numpy as np
import pytest

from pdm_jax.data.record import FIELDS
from pdm_jax.data.sources import open_source
from pdm_jax.data.sources.builtin import NUMBER_WORDS


@pytest.mark.parametrize(("name", "side"), [("scenes", 32), ("scenes64", 64)])
def test_all_that_is_said_of_a_scene_agrees(name, side):
    scenes, again = (open_source(f"builtin:{name}") for _ in range(2))
    counts = set()
    for index in range(60):
        record = scenes[index]
        assert record.image.shape == record.map.shape == (side, side)
        np.testing.assert_array_equal(record.image, again[index].image)
        numbers = [thing["class"] for thing in record.layout]
        seen = np.zeros_like(record.map)
        for thing in record.layout:
            left, top, width, height = (round(side * edge) for edge in thing["box"])
            part = record.map[top : top + height, left : left + width]
            ink = part == 1 + thing["class"]
            assert ink[0].any() and ink[-1].any() and ink[:, 0].any() and ink[:, -1].any()  # the box is tight
            seen[top : top + height, left : left + width] = 1
        assert not record.map[seen == 0].any()
        assert record.image[record.map > 0].min() >= 64 > record.image[record.map == 0].mean()
        words = record.captions[-1].replace(",", "").split()
        assert [word for word in words if word in NUMBER_WORDS] == [NUMBER_WORDS[number] for number in numbers]
        counts.add(len(numbers))
    assert counts == {1, 2, 3, 4}
    assert [scenes.lacking(field) for field in FIELDS] == [[], [], []]


def test_relations_of_two_digits_are_true():
    scenes, relations = open_source("builtin:scenes"), set()
    for index in range(100):
        record = scenes[index]
        if len(record.layout) != 2:
            continue
        first, relation, second = (words.split()[-1] for words in _split(record.captions[0]))
        (x0, y0), (x1, y1) = (_centre(thing["box"]) for thing in record.layout)  # from left to right
        names = [NUMBER_WORDS[thing["class"]] for thing in record.layout]
        if relation == "left":
            assert [first, second] == names and x1 - x0 >= abs(y1 - y0)
        else:
            assert [first, second] == (names if y0 < y1 else names[::-1]) and abs(y1 - y0) > x1 - x0
        relations.add(relation)
    assert relations == {"left", "above"}


def _split(caption: str) -> tuple[str, str, str]:
    relation = " left of " if " left of " in caption else " above "
    first, second = caption.split(relation)
    return first, relation.split()[0], second


def _centre(box):
    left, top, width, height = box
    return left + width / 2, top + height / 2


def test_digits_have_captions():
    digits = open_source("builtin:digits")
    assert [digits[i].captions for i in (0, 3, 8)] == [
        ("a handwritten zero",),
        ("a handwritten three",),
        ("a handwritten eight",),
    ]
    assert digits.lacking("captions") == []
