"""Captions, layouts and class maps beside images: found in every source, kept by `pdm data build`."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from pdm_jax.cli.main import main
from pdm_jax.data.codec import decode_classes
from pdm_jax.data.record import FIELDS, BrokenImageError, Record, require
from pdm_jax.data.sources import open_source
from pdm_jax.errors import UserError

_LAYOUT = [{"class": "eye", "box": [0.0, 0.25, 0.5, 0.5], "occluded": True}]


@pytest.fixture
def annotated(image_folder):
    """The folder with all that may lie beside images; every image has a caption, a layout and a map."""
    for path in image_folder.rglob("*.png"):
        number = int(path.stem)
        path.with_suffix(".txt").write_text(f"grey {number}\n\n plain {number} \n")
        path.with_suffix(".json").write_text(json.dumps({"objects": _LAYOUT, "width": 8}))
        map_path = image_folder.parent / "maps" / path.relative_to(image_folder)
        map_path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8), number, np.uint8)).save(map_path)
    (image_folder / "classes.txt").write_text("nose\neye\n")
    return image_folder


def _zip(folder, prefix=""):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def _check(source):
    assert source.object_names == ("nose", "eye")
    for index in range(11):
        record = source[index]
        assert record.captions == (f"grey {index}", f"plain {index}")
        assert list(record.layout) == _LAYOUT
        assert np.unique(np.asarray(decode_classes(record))).tolist() == [index]
    assert [source.lacking(field) for field in FIELDS] == [[], [], []]


def test_folder_zip_and_array_record_say_the_same(annotated, tmp_path, capsys):
    out = tmp_path / "out.array_record"
    _check(open_source(f"folder:{annotated}", fields=FIELDS))
    _check(open_source(str(_zip(annotated)), fields=FIELDS))
    assert main(["data", "build", str(annotated), str(out)]) == 0
    assert "11 images, 2 classes, 0 skipped" in capsys.readouterr().out
    built = open_source(str(out))
    _check(built)
    assert built.fields == ("captions", "layout", "map")
    assert built[3].image == (annotated / "cat" / "03.png").read_bytes()
    assert main(["data", "build", str(out), str(tmp_path / "again.array_record")]) == 0
    _check(open_source(str(tmp_path / "again.array_record")))


def test_only_what_is_wanted_is_read(annotated):
    for path in annotated.rglob("*.json"):
        path.write_text("no JSON")
    source = open_source(str(annotated), fields=("captions",))
    assert source[0] == Record(source[0].image, 0, "cat/00.png", 0, ("grey 0", "plain 0"))
    with pytest.raises(UserError, match=r"cat/00\.json in the folder .* is no JSON"):
        open_source(str(annotated), fields=("layout",))[0]


def test_lists_name_files_as_seen_from_where_they_lie(image_folder):
    lines = [{"file": f"{i:02}.png", "caption": [f"cat {i}", "a cat"] if i % 2 else f"cat {i}"} for i in range(6)]
    (image_folder / "cat" / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    lines = [{"file": f"dog/{i:02}.png", "objects": _LAYOUT * (i - 6)} for i in range(6, 11)]
    (image_folder / "layouts.jsonl").write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    for source in (
        open_source(f"folder:{image_folder}", fields=FIELDS),
        open_source(f"zip:{_zip(image_folder, prefix='all/')}", fields=FIELDS),
    ):
        assert source[2].captions == ("cat 2",) and source[3].captions == ("cat 3", "a cat")
        assert source[6].layout == () and len(source[8].layout) == 2 and source[0].layout is None
        assert [len(source.lacking(field)) for field in FIELDS] == [5, 6, 11]
        with pytest.raises(
            UserError, match=r"5 of 11 images in here have no caption \(.*\): .*07\.png, .*08\.png, \.\.\."
        ):
            require(source, ["captions"], "here")


def test_a_json_file_without_objects_is_no_layout(annotated):
    (annotated / "dog" / "07.json").write_text('{"width": 8}')
    (annotated / "dog" / "08.json").write_text('{"objects": 3}')
    with pytest.raises(UserError, match=r'dog/08\.json in the folder .* is no layout; expected {"objects"'):
        open_source(str(annotated), fields=FIELDS)[8]
    (annotated / "dog" / "08.json").unlink()
    (annotated / "layouts.jsonl").write_text('{"file": "dog/08.png", "objects": []}')
    source = open_source(str(annotated), fields=FIELDS)
    assert source.lacking("layout") == ["dog/07.png"] and source[7].layout is None


def test_what_some_images_have_is_kept_and_known_to_be_incomplete(annotated, tmp_path):
    (annotated / "dog" / "07.txt").unlink()
    out = tmp_path / "out.array_record"
    assert main(["data", "build", str(annotated), str(out)]) == 0
    built = open_source(str(out))
    assert built.fields == ("layout", "map")
    assert built.lacking("captions") == ["dog/07.png"]
    assert built[8].captions == ("grey 8", "plain 8") and built[7].captions is None


def test_maps_are_class_numbers(annotated):
    first = annotated.parent / "maps" / "cat" / "00.png"
    palette = Image.fromarray(np.full((6, 8), 3, np.uint8), "P")
    palette.putpalette([200, 10, 10] * 256)
    palette.save(first)
    source = open_source(str(annotated), fields=("map",))
    assert np.unique(np.asarray(decode_classes(source[0]))).tolist() == [3]
    Image.new("RGB", (8, 6)).save(first)
    with pytest.raises(BrokenImageError, match=r"class map of cat/00\.png: has the mode RGB; expected class numbers"):
        decode_classes(source[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no JSON", r"line 2 of captions\.jsonl in the folder .* is not as expected"),
        ('{"file": "cat/00.png"}', "line 2 of captions"),
        ('["cat/00.png"]', "line 2 of captions"),
        ('{"file": "cat/00.png", "caption": []}', 'is not as expected: {"file": "a.jpg", "caption": "a cat"}'),
        ('{"file": "cat/00.png", "caption": [1]}', "line 2 of captions"),
        ('{"file": 3, "caption": "a cat"}', "line 2 of captions"),
    ],
)
def test_damaged_lists_are_named(image_folder, line, message):
    (image_folder / "captions.jsonl").write_text('{"file": "cat/01.png", "caption": "a cat"}\n' + line)
    with pytest.raises(UserError, match=message):
        open_source(str(image_folder), fields=("captions",))


def test_texts_that_are_no_text(annotated):
    (annotated / "cat" / "00.txt").write_bytes(b"\xff\xfe\x00")
    (annotated / "cat" / "01.txt").write_text("\n \n")
    source = open_source(str(annotated), fields=("captions",))
    with pytest.raises(UserError, match=r"cat/00\.txt in the folder .* is no UTF-8 text"):
        source[0]
    assert source[1].captions == ("",)
    shutil.rmtree(annotated.parent / "maps")
    with pytest.raises(UserError, match=r"11 of 11 images in x have no class map"):
        require(open_source(str(annotated), fields=("map",)), ["map"], "x")
