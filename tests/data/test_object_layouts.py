"""Layouts: tokens and back, windows and flips, what files may say, and their pictures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdm_jax.data.layout_pictures import draw_layout
from pdm_jax.data.layouts import FLAGS, WHOLE, LayoutCodec, LayoutObject, parse_objects, select
from pdm_jax.errors import UserError

CODEC = LayoutCodec(num_classes=10)
corner, part = st.floats(0, 0.9), st.floats(0.01, 1)
objects = st.builds(
    LayoutObject,
    st.integers(0, 9),
    st.tuples(corner, corner, part, part).map(lambda b: (b[0], b[1], b[2] * (1 - b[0]), b[3] * (1 - b[1]))),
    st.frozensets(st.sampled_from(list(FLAGS))),
)


def test_lengths_and_padding():
    assert CODEC.length == 92 and CODEC.encode([]).dtype == np.int32
    np.testing.assert_array_equal(CODEC.encode([]), [8191] * 90 + [0, 8099])
    bare = LayoutCodec(10, max_objects=4, num_tokens=100, crop_tokens=False)
    np.testing.assert_array_equal(bare.encode([]), [99] * 12)


def test_places_are_on_a_grid_of_rows_and_ties_are_even():
    codec = LayoutCodec(2, num_tokens=17)
    assert codec.point(0, 0) == 0 and codec.point(1, 0) == 3 and codec.point(0, 1) == 12 and codec.point(1, 1) == 15
    assert codec.point(0.5, 0) == 2 and codec.point(0, 0.5) == 8  # 1.5 rounds to 2
    assert LayoutCodec(2, num_tokens=9).point(0.25, 0.75) == 6  # 0.5 to 0, 1.5 to 2
    assert codec.place(7) == (1.0, 1 / 3)


@given(st.lists(objects, max_size=30))
def test_decoding_gives_the_objects_back_to_the_grid(things):
    seen, window = CODEC.decode(CODEC.encode(things))
    assert window == WHOLE
    for got, wanted in zip(seen, things, strict=True):
        assert (got.number, got.flags) == (wanted.number, wanted.flags)
        np.testing.assert_allclose(got.box, wanted.box, atol=1.01 / 89)


@given(st.lists(objects, max_size=5))
def test_flipping_mirrors_boxes_and_window(things):
    window = (0.125, 0.25, 0.5, 0.75)
    plain, _ = CODEC.decode(CODEC.encode(things, window))
    flipped, mirrored = CODEC.decode(CODEC.encode(things, window, flipped=True))
    np.testing.assert_allclose(mirrored, (0.375, 0.25, 0.5, 0.75), atol=1.01 / 89)
    for one, other in zip(plain, flipped, strict=True):
        assert other.box[0] == pytest.approx(1 - one.box[0] - one.box[2], abs=1.01 / 89)
        assert other.box[1:] == pytest.approx(one.box[1:], abs=1.01 / 89)


def test_windows_leave_out_what_lies_outside_and_rescale_only_without_crop_tokens():
    things = [LayoutObject(1, (0.5, 0.5, 0.25, 0.5)), LayoutObject(2, (0.0, 0.0, 0.5, 0.5))]
    window = (0.5, 0.5, 0.5, 0.5)
    (seen,), frame = CODEC.decode(CODEC.encode(things, window))
    assert seen.box == pytest.approx((0.5, 0.5, 0.25, 0.5), abs=1.01 / 89)
    assert frame == pytest.approx(window, abs=1.01 / 89)
    bare = LayoutCodec(10, crop_tokens=False)
    (seen,), _ = bare.decode(bare.encode(things, window))
    assert seen.box == pytest.approx((0, 0, 0.5, 1), abs=1.01 / 89)
    (seen,), _ = bare.decode(bare.encode(things, window, flipped=True))
    assert seen.box == pytest.approx((0.5, 0, 0.5, 1), abs=1.01 / 89)


def test_order_is_shuffled_by_the_generator_and_the_first_objects_are_kept():
    things = [LayoutObject(i, (0.1, 0.1, 0.5, 0.5)) for i in range(10)]
    codec = LayoutCodec(10, max_objects=5)
    orders = {tuple(codec.encode(things, rng=np.random.default_rng(seed))[0:15:3].tolist()) for seed in range(40)}
    assert len(orders) > 20 and {tuple(sorted(order)) for order in orders} == {(0, 1, 2, 3, 4)}
    np.testing.assert_array_equal(codec.encode(things)[0:15:3], range(5))


def test_flags_beside_the_class():
    thing = LayoutObject(3, (0, 0, 1, 1), frozenset(FLAGS))
    assert CODEC.encode([thing])[0] == 3 + 10 * 15
    assert LayoutCodec(10, flags=("group",)).encode([thing])[0] == 13
    assert LayoutCodec(600).encode([thing])[0] == 3  # 9003 is no token


def test_classes_must_fit_the_vocabulary():
    with pytest.raises(UserError, match="900 classes of objects do not fit a vocabulary of 900"):
        LayoutCodec(900, num_tokens=900)


def test_files_say_classes_by_number_or_name():
    entries = [{"class": "dog", "box": [0, 0.5, 1, 0.5], "inside": True}, {"class": 0, "box": [0.1, 0.1, 0.2, 0.2]}]
    things = parse_objects(entries, ["cat", "dog"], 2, "a.jpg")
    assert things == [LayoutObject(1, (0, 0.5, 1, 0.5), frozenset({"inside"})), LayoutObject(0, (0.1, 0.1, 0.2, 0.2))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "cow"}, "object 1 of the layout of a.jpg is of the class 'cow'; expected one of cat, dog"),
        ({"class": 2}, "a number from 0 to 1"),
        ({"class": True}, "a number from 0 to 1"),
        ({"box": [0, 0, 100, 50]}, "in parts of the image"),
        ({"box": [0, 0, 1]}, r"expected \[left, top, width, height\]"),
        ({"box": [0, 0, 1, "1"]}, r"expected \[left, top, width, height\]"),
        ({"group": 1}, "has group 1; expected true or false"),
        ({"area": 1}, "expected class, box and maybe group, occluded, depiction, inside"),
    ],
)
def test_mistakes_in_files(change, message):
    with pytest.raises(UserError, match=message):
        parse_objects([{"class": 0, "box": [0, 0, 1, 1]} | change], ["cat", "dog"], 2, "a.jpg")


def test_names_need_names():
    with pytest.raises(UserError, match="a number: no names are known"):
        parse_objects([{"class": "cat", "box": [0, 0, 1, 1]}], [], 2, "a.jpg")


def test_selection_of_open_images():
    large, small = LayoutObject(0, (0, 0, 0.5, 0.5)), LayoutObject(0, (0, 0, 0.01, 0.01))
    assert select([large, small, large]) == [large, large]
    assert select([large, small]) is None and select([large] * 31) is None
    assert select([large], counts=(1, 30)) == [large]


def test_a_picture_has_boxes_where_objects_are():
    picture = draw_layout([LayoutObject(0, (0.25, 0.5, 0.5, 0.25))], (64, 128))
    assert picture.shape == (64, 128, 3) and picture.dtype == np.uint8
    rows, columns = np.nonzero((picture != 255).any(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 47, 32, 95)
    assert (draw_layout([], (64, 64)) == 255).all() and (draw_layout([], (64, 64), window=(0, 0, 0.5, 1)) != 255).any()
    named = draw_layout([LayoutObject(0, (0.25, 0.5, 0.5, 0.25))], (64, 128), names=["cat"])
    assert not np.array_equal(named, picture)
