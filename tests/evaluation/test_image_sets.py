"""Sets of images: order, parts, sizes, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from pdm_jax.errors import UserError
from pdm_jax.evaluation.image_sets import ImageSet, pairs


def collect(batches, key="image"):
    return np.concatenate([batch[key] for batch in batches])


def test_every_image_comes_once_in_order_and_untouched(folder_of, noise_images):
    images = noise_images(11)
    found = ImageSet(str(folder_of("a", images)))
    assert len(found) == 11 and found.image_shape == (12, 12, 3)
    batches = list(found.batches(4))
    assert [len(batch["image"]) for batch in batches] == [4, 4, 3]
    np.testing.assert_array_equal(collect(batches), images)
    np.testing.assert_array_equal(collect(batches, "index"), np.arange(11))


def test_hosts_share_a_set(folder_of, noise_images):
    images = noise_images(7)
    found = ImageSet(str(folder_of("a", images)))
    for host in range(3):
        mine = list(found.batches(2, host, 3))
        np.testing.assert_array_equal(collect(mine, "index"), np.arange(7)[host::3])
        np.testing.assert_array_equal(collect(mine), images[host::3])


def test_a_part_is_spread_over_the_set_or_its_beginning(folder_of, noise_images):
    images = noise_images(10)
    path = str(folder_of("a", images))
    np.testing.assert_array_equal(collect(ImageSet(path, num=4).batches(8)), images[[0, 2, 5, 7]])
    np.testing.assert_array_equal(collect(ImageSet(path, num=4, spread=False).batches(8)), images[:4])


def test_archives_and_folders_hold_the_same(tmp_path, folder_of, noise_images):
    images = noise_images(5)
    np.savez(tmp_path / "a.npz", images, np.arange(5))
    np.savez_compressed(tmp_path / "b.npz", arr_0=images)
    for name in ("a.npz", "b.npz"):
        np.testing.assert_array_equal(collect(ImageSet(str(tmp_path / name)).batches(8)), images)


def test_a_size_crops_the_middle_and_grey_has_one_channel(folder_of):
    wide = np.zeros((1, 8, 16, 3), np.uint8)
    wide[:, :, 1:15] = 200  # the filter reaches over the window
    (image,) = collect(ImageSet(str(folder_of("a", wide)), size=4, channels=1).batches(1))
    np.testing.assert_array_equal(image, np.full((4, 4, 1), 200))


def test_the_revision_tells_contents_and_readings_apart(folder_of, noise_images):
    path = folder_of("a", noise_images(4))
    same = {ImageSet(str(path)).revision for _ in range(2)}
    Image.fromarray(noise_images(1, seed=9)[0]).save(path / "002.png")
    others = [ImageSet(str(path), **how).revision for how in ({}, {"size": 8}, {"num": 2}, {"channels": 1})]
    assert len({*same, *others}) == 5


def test_sets_that_cannot_be_judged(tmp_path, folder_of, noise_images):
    mixed = folder_of("mixed", noise_images(3))
    Image.new("RGB", (20, 10)).save(mixed / "999.png")
    with pytest.raises(UserError, match=r"999.png is 20x10, the first 12x12; give a --size"):
        list(ImageSet(str(mixed)).batches(2))
    assert len(collect(ImageSet(str(mixed), size=8).batches(2))) == 4
    broken = folder_of("broken", noise_images(3))
    (broken / "001.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UserError, match=r"has a broken image, 001.png"):
        list(ImageSet(str(broken)).batches(2))
    with pytest.raises(UserError, match="has 3 images, 5 were asked for"):
        ImageSet(str(broken), num=5)
    np.savez(tmp_path / "float.npz", np.zeros((2, 8, 8, 3), np.float32))
    with pytest.raises(UserError, match=r"holds float32 \(2, 8, 8, 3\) as arr_0; expected uint8"):
        ImageSet(str(tmp_path / "float.npz"))
    np.savez(tmp_path / "empty.npz", mu=np.zeros(3))
    with pytest.raises(UserError, match=r"holds mu.npy and no images; expected arr_0"):
        ImageSet(str(tmp_path / "empty.npz"))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "float.npz").read_bytes()[:300])
    with pytest.raises(UserError, match=r"is no .npz archive, or is cut short"):
        ImageSet(str(tmp_path / "cut.npz"))


def test_pairs_go_by_name(tmp_path, folder_of, noise_images):
    ours, theirs = noise_images(5), noise_images(5, seed=1)
    a, b = folder_of("a", ours), folder_of("b", theirs)
    found = list(pairs(ImageSet(str(a)), ImageSet(str(b)), 2))
    np.testing.assert_array_equal(collect(found), ours)
    np.testing.assert_array_equal(collect(found, "original"), theirs)
    (b / "003.png").rename(b / "0035.png")
    with pytest.raises(UserError, match=r"003.png of .* would be compared with 0035.png"):
        list(pairs(ImageSet(str(a)), ImageSet(str(b)), 2))
    (b / "0035.png").unlink()
    with pytest.raises(UserError, match=r"has 5 images and .* has 4"):
        list(pairs(ImageSet(str(a)), ImageSet(str(b)), 2))
    with pytest.raises(UserError, match=r"are 12x12, those of .* 6x6"):
        list(pairs(ImageSet(str(a)), ImageSet(str(a), size=6), 2))
