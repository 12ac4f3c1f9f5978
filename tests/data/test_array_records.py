"""`pdm data build` and reading back what it wrote."""

import argparse
import logging

import numpy as np
import pytest
from PIL import Image

from pdm_jax.cli import data as data_command
from pdm_jax.data.build import build_array_record
from pdm_jax.data.codec import decode
from pdm_jax.data.sources import open_source
from pdm_jax.errors import UserError


def _run(*arguments) -> int:
    parser = argparse.ArgumentParser()
    data_command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["data", "build", *map(str, arguments)])
    return args.run(args)


def test_build_keeps_bytes_labels_and_classes(image_folder, tmp_path, capsys):
    out = tmp_path / "new" / "animals.array_record"
    assert _run(image_folder, out) == 0
    assert "11 images, 2 classes, 0 skipped" in capsys.readouterr().out
    folder, built = open_source(f"folder:{image_folder}"), open_source(f"arrayrecord:{out}")
    assert built.class_names == ("cat", "dog")
    assert len(built) == 11
    assert [built[i] for i in range(11)] == [folder[i] for i in range(11)]
    assert list(out.parent.iterdir()) == [out]


def test_pixels_become_png_without_loss(tmp_path):
    out = tmp_path / "digits.array_record"
    digits = open_source("builtin:digits")
    assert build_array_record(digits, out) == (1797, 0)
    built = open_source(str(out))
    assert built.class_names == digits.class_names
    for index in (0, 5, 1796):
        np.testing.assert_array_equal(np.asarray(decode(built[index], 1)), digits[index].image)
        assert built[index].label == digits[index].label


def test_larger_images_are_made_smaller_once(tmp_path):
    generator = np.random.default_rng(0)
    smooth = Image.fromarray(generator.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((90, 60))
    (tmp_path / "in").mkdir()
    smooth.save(tmp_path / "in" / "large.png")
    smooth.resize((30, 20)).save(tmp_path / "in" / "small.png")
    out = tmp_path / "out.array_record"
    assert _run(tmp_path / "in", out, "--size=32") == 0
    built = open_source(f"arrayrecord:{out}")
    large, small = (decode(built[i], 3) for i in range(2))
    assert large.size == (48, 32) and small.size == (30, 20)
    wanted = np.asarray(smooth.resize((48, 32), Image.Resampling.BICUBIC), np.int16)
    assert np.abs(np.asarray(large, np.int16) - wanted).mean() < 2
    assert _run(tmp_path / "in", out, "--size=24x60", "--force") == 0
    assert [decode(open_source(f"arrayrecord:{out}")[i], 3).size for i in range(2)] == [(60, 40), (30, 20)]
    with pytest.raises(UserError, match="the size is 0x0; expected at least 1"):
        build_array_record(built, tmp_path / "x.array_record", size=0)


def test_broken_images_are_skipped_counted_and_named(image_folder, tmp_path, capsys, caplog):
    (image_folder / "cat" / "03.png").write_bytes(b"broken")
    out = tmp_path / "animals.array_record"
    with caplog.at_level(logging.WARNING):
        assert _run(f"folder:{image_folder}", out) == 0
    assert "10 images, 2 classes, 1 skipped" in capsys.readouterr().out
    assert [record.getMessage() for record in caplog.records if "cat/03.png" in record.getMessage()]
    built = open_source(str(out))
    assert [built[i].name for i in range(2, 4)] == ["cat/02.png", "cat/04.png"]
    assert [built[i].index for i in range(10)] == list(range(10))


def test_nothing_usable_writes_nothing(tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="none of the 1 images decodes"):
        build_array_record(open_source(f"folder:{tmp_path}"), tmp_path / "out.array_record")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_existing_file_is_replaced_only_by_force(image_folder, tmp_path):
    out = tmp_path / "out.array_record"
    out.write_text("precious")
    with pytest.raises(UserError, match="--force"):
        _run(image_folder, out)
    assert out.read_text() == "precious"
    assert _run(image_folder, out, "--force") == 0
    assert len(open_source(str(out))) == 11


def test_interrupted_build_leaves_the_old_file(image_folder, tmp_path):
    out = tmp_path / "out.array_record"
    out.write_text("precious")

    def interrupt(records):
        yield next(iter(records))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_array_record(open_source(str(image_folder)), out, interrupt, force=True)
    assert out.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"out.array_record", "animals"}


def test_place_that_cannot_be_written_is_named(image_folder, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="cannot be written"):
        build_array_record(open_source(str(image_folder)), tmp_path / "file" / "out.array_record")


def test_several_files_are_one_source_in_order(image_folder, tmp_path):
    for name in ("b", "a"):
        build_array_record(open_source(str(image_folder)), tmp_path / f"{name}.array_record")
    both = open_source(f"arrayrecord:{tmp_path}/*.array_record")
    assert len(both) == 22
    assert both[11].name == both[0].name == "cat/00.png"
    assert both[21].index == 21
    build_array_record(open_source(str(image_folder / "cat")), tmp_path / "c.array_record")
    with pytest.raises(UserError, match="other class names"):
        open_source(f"arrayrecord:{tmp_path}/*.array_record")


def test_array_record_of_something_else_is_refused(tmp_path):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(tmp_path / "x.array_record"), "group_size:1")
    writer.write(b'{"format": "other"}\n')
    writer.close()
    with pytest.raises(UserError, match=r"format other, expected pdm_jax\.images\.1"):
        open_source(str(tmp_path / "x.array_record"))
