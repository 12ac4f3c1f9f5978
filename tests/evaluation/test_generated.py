"""Generated images on disk: exactly as many as asked for, each index once, whatever happened before."""

import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation.generated import GeneratedFolder, fill
from pdm_jax.evaluation.image_sets import ImageSet

ABOUT = {"step": 3, "seed": 0}


def image(index):
    return np.full((2, 2, 1), index, np.uint8)


class Maker:
    """Makes images in batches of 4, and dies after some."""

    def __init__(self, lives=10**6):
        self.made, self.lives = [], lives

    def __call__(self, stop, start):
        for first in range(start, stop, 4):
            if self.lives == 0:
                raise KeyboardInterrupt
            self.lives -= 1
            indices = range(first, min(first + 4, stop))
            self.made += indices
            yield np.stack([image(i) for i in indices])


def filled(path, num, maker):
    folder, told = GeneratedFolder(path, ABOUT), []
    fill(folder, num, maker, np.arange(num), told.append)
    assert sum(told) == num
    return folder


def assert_whole(folder, num):
    batches = list(ImageSet(folder.source(num), channels=1, num=num, spread=False).batches(5))
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches]), [image(i) for i in range(num)])
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in batches]), np.arange(num))


def test_what_is_there_is_kept_and_what_is_missing_is_made(tmp_path):
    first, second = Maker(lives=2), Maker()
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path / "a", 18, first)
    with pytest.raises(UserError, match="lacks 10 of 18 images; run the same command"):
        GeneratedFolder(tmp_path / "a", ABOUT).source(18)
    folder = filled(tmp_path / "a", 18, second)
    assert first.made == list(range(8)) and second.made == list(range(8, 18))
    assert_whole(folder, 18)


def test_a_gap_is_filled_and_a_half_written_file_does_not_count(tmp_path):
    folder = filled(tmp_path / "a", 12, Maker())
    (tmp_path / "a" / "images-00000004-00000008.npz").rename(tmp_path / "a" / ".images-00000004-00000008.npz.partial")
    maker = Maker()
    assert_whole(filled(tmp_path / "a", 12, maker), 12)
    assert maker.made == [4, 5, 6, 7]
    assert folder.there(14).tolist() == [True] * 12 + [False] * 2


def test_a_larger_number_goes_on_and_a_smaller_one_takes_the_beginning(tmp_path):
    filled(tmp_path / "a", 6, Maker())
    more, none = Maker(), Maker()
    assert_whole(filled(tmp_path / "a", 11, more), 11)
    assert more.made == [6, 7, 8, 9, 10]
    assert_whole(filled(tmp_path / "a", 5, none), 5)
    assert none.made == []


def test_images_made_in_another_way_are_not_mixed(tmp_path):
    filled(tmp_path / "a", 4, Maker())
    with pytest.raises(UserError, match="holds images that were made in another way"):
        GeneratedFolder(tmp_path / "a", {**ABOUT, "seed": 1})


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*; choose another --out"):
        GeneratedFolder(tmp_path / "file" / "a", ABOUT)
    folder = GeneratedFolder(tmp_path / "a", ABOUT)

    def full(file, *arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    with pytest.raises(UserError, match="No space left on device; the images so far are kept"):
        fill(folder, 4, Maker(), None, lambda count: None)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["about.json"]
