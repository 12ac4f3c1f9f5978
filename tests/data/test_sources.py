"""What each source finds, how it labels it, and what it says when there is nothing to find."""

import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from pdm_jax.data.codec import decode
from pdm_jax.data.record import BrokenImageError
from pdm_jax.data.sources import open_source
from pdm_jax.errors import UserError


def _zip(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def test_digits():
    digits = open_source("builtin:digits")
    assert len(digits) == 1797
    assert digits.class_names == tuple("0123456789")
    assert [digits[i].label for i in range(10)] == list(range(10))
    assert digits[0].image.dtype == np.uint8
    assert digits[0].image.shape == (8, 8)
    assert digits[0].image.max() > 200
    assert digits[7].index == 7


def test_photos_are_fixed_windows_on_real_photographs():
    photos = open_source("builtin:photos")
    assert len(photos) >= 2000
    assert photos.class_names == ()
    again = open_source("builtin:photos")
    names = set()
    for index in range(0, len(photos), 100):
        record = photos[index]
        np.testing.assert_array_equal(record.image, again[index].image)
        height, width, channels = record.image.shape
        assert height == width >= 128
        assert channels == 3
        assert record.image.std() > 1
        names.add(record.name)
    assert len(names) == len(range(0, len(photos), 100))


def test_folder_classes_are_sub_folders_sorted_by_name(image_folder):
    nested = image_folder / "cat" / "deep" / "er"
    nested.mkdir(parents=True)
    shutil.copy(image_folder / "cat" / "00.png", nested / "99.JPG")
    (image_folder / "readme.txt").write_text("no image")
    (image_folder / ".hidden.png").write_text("no image")
    (image_folder / "empty").mkdir()
    source = open_source(f"folder:{image_folder}")
    assert source.class_names == ("cat", "dog")
    assert [source[i].label for i in range(12)] == [0] * 7 + [1] * 5
    assert [source[i].index for i in range(12)] == list(range(12))
    assert source[6].name == "cat/deep/er/99.JPG"
    assert source[0].image == (image_folder / "cat" / "00.png").read_bytes()


def test_folder_without_sub_folders_is_unconditional(image_folder):
    source = open_source(f"folder:{image_folder / 'dog'}")
    assert source.class_names == ()
    assert source[0].label is None
    assert len(source) == 5


def test_images_beside_classes_are_refused(image_folder):
    shutil.copy(image_folder / "cat" / "00.png", image_folder / "stray.png")
    with pytest.raises(UserError, match=r"stray\.png"):
        open_source(f"folder:{image_folder}")


def test_zip_is_the_same_as_the_folder_also_inside_a_wrapping_folder(image_folder, tmp_path):
    folder = open_source(f"folder:{image_folder}")
    plain = open_source(f"zip:{_zip(image_folder, tmp_path / 'plain.zip')}")
    wrapped = open_source(f"zip:{_zip(image_folder, tmp_path / 'wrapped.zip', prefix='all/')}")
    for source in (plain, wrapped):
        assert source.class_names == folder.class_names
        assert [source[i].label for i in range(len(source))] == [folder[i].label for i in range(len(folder))]
        assert [source[i].image for i in range(len(source))] == [folder[i].image for i in range(len(folder))]
    assert plain.fingerprint == folder.fingerprint


def test_plain_paths_are_understood(image_folder, tmp_path):
    assert len(open_source(str(image_folder))) == 11
    assert len(open_source(str(_zip(image_folder, tmp_path / "all.zip")))) == 11


_FORK = """
import multiprocessing, pickle, sys
from pdm_jax.data.sources import open_source

source = open_source(sys.argv[1])

def read():
    return [source[i].image for i in range(len(source))]

expected = read()
with multiprocessing.get_context("fork").Pool(2) as pool:  # both inherit the open handle
    for images in [pool.apply_async(read) for _ in range(8)]:
        assert images.get() == expected
source = pickle.loads(pickle.dumps(source))
assert read() == expected
print("same")
"""


def test_zip_can_be_read_across_forking_and_pickling(image_folder, tmp_path):
    path = _zip(image_folder, tmp_path / "all.zip")
    # In a process of its own, since forking one with JAX's threads can hang.
    result = subprocess.run([sys.executable, "-c", _FORK, str(path)], check=True, capture_output=True, text=True)
    assert result.stdout == "same\n"


def test_damaged_member_of_a_zip_is_a_broken_image(image_folder, tmp_path):
    path = _zip(image_folder, tmp_path / "all.zip")
    data = bytearray(path.read_bytes())
    start = data.find((image_folder / "cat" / "03.png").read_bytes())
    data[start + 50] ^= 255
    path.write_bytes(data)
    source = open_source(f"zip:{path}")
    with pytest.raises(BrokenImageError, match=r"cat/03\.png"):
        source[3]
    assert decode(source[4], 3).size == (8, 6)


def test_folder_fingerprint_tells_contents_apart_but_not_places(image_folder, tmp_path):
    before = open_source(f"folder:{image_folder}").fingerprint
    shutil.copytree(image_folder, tmp_path / "moved")
    assert open_source(f"folder:{tmp_path / 'moved'}").fingerprint == before
    shutil.copy(image_folder / "cat" / "00.png", image_folder / "cat" / "new.png")
    assert open_source(f"folder:{image_folder}").fingerprint != before


def test_file_that_vanished_is_named(image_folder):
    source = open_source(f"folder:{image_folder}")
    (image_folder / "cat" / "02.png").unlink()
    with pytest.raises(UserError, match=r"cat/02\.png cannot be read"):
        source[2]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("builtin:cats", "builtin:photos, builtin:scenes and builtin:scenes64"),
        ("folder:{tmp}/none", "does not exist; give the folder"),
        ("folder:{tmp}/empty", "holds no images"),
        ("zip:{tmp}/none.zip", "does not exist"),
        ("zip:{tmp}/text.zip", "is not a zip archive"),
        ("arrayrecord:{tmp}/*.array_record", "no file matches"),
        ("arrayrecord:{tmp}/text.zip", "is not an ArrayRecord file"),
        ("fodler:{tmp}/empty", "did you mean folder:"),
        ("{tmp}/none", "no path that exists; expected builtin:digits"),
        ("tfds:no_such_data_set", "tfds build no_such_data_set --file_format=array_record"),
    ],
)
def test_user_mistakes_say_what_to_do(spec, message, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(UserError) as error:
        open_source(spec.format(tmp=tmp_path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
