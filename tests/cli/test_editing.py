"""`pdm outpaint` and `pdm inpaint`: what is known stays to the byte, pictures of any size and kind, codes, mistakes."""

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.cli.conftest import save_weights
from tests.cli.test_larger import SYSTEM, read

ENCODER = {"kind": "encoder", "dim": 32, "network": {"width": 32, "channel_mult": (1,), "num_blocks": 1}}
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 10, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Makes a workdir of a Patch-DM of colour images, with codes of a kind."""

    def make(**codes):
        path = tmp_path_factory.mktemp("colours")
        data, loss = SYSTEM["data"] | {"channels": 3}, SYSTEM["loss"] | {"code_dropout": 0.1}
        save_weights(path, tiny.config(**SYSTEM | {"data": data, "loss": loss, "codes": codes}), (0,))
        return path

    return make


@pytest.fixture(scope="module")
def encoder(colours):
    return colours(**ENCODER)


@pytest.fixture(scope="module")
def table(colours):
    return colours(kind="table", dim=32, num=3)


@pytest.fixture
def files(tmp_path):
    """A picture, a mask of its right half and the paths of a result and its comparison."""
    Image.fromarray(PIXELS).save(tmp_path / "picture.png")
    mask = np.zeros(PIXELS.shape[:2], np.uint8)
    mask[:, 5:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


@pytest.fixture
def edited(pdm, files):
    """The result (H, W, C) of a command on the picture, and what it said."""

    def run(command, workdir, *argv, picture="picture.png"):
        out = files / "result.png"
        status, said, log = pdm(command, files / picture, f"--workdir={workdir}", f"--out={out}", *argv)
        assert status == 0, log
        assert said.startswith(f"{out}: ")
        return read(out), said

    return run


def test_outpaint_keeps_the_picture_and_reads_its_code(edited, files, encoder):
    compare = files / "compare.png"
    flags = ("--left=3", "--bottom=5", f"--compare={compare}")
    result, said = edited("outpaint", encoder, *flags)
    assert "55% of 12x13 pixels made by checkpoint 0" in said
    np.testing.assert_array_equal(result[:7, 3:], PIXELS)
    added = np.ones(result.shape[:2], bool)
    added[:7, 3:] = False
    assert result[added].std() > 5
    sheet = read(compare)
    assert sheet.shape == (12, 13 + 4 + 13, 3) and (sheet[:, :13][added] == 128).all()
    np.testing.assert_array_equal(sheet[:, 17:], result)
    assert (edited("outpaint", encoder, *flags, "--code=none")[0][added] != result[added]).mean() > 0.1


def test_inpaint_fills_the_white_of_a_mask(edited, files, table):
    mask = f"--mask={files}/mask.png"
    result, said = edited("inpaint", table, mask)
    assert "50% of 7x10 pixels made" in said
    np.testing.assert_array_equal(result[:, :5], PIXELS[:, :5])
    assert (result[:, 5:] != PIXELS[:, 5:]).mean() > 0.9
    coded, _ = edited("inpaint", table, mask, "--code=2")
    assert (coded[:, 5:] != result[:, 5:]).mean() > 0.3


def test_inpaint_with_a_feather_and_jumps(edited, files, table):
    mask = f"--mask={files}/mask.png"
    feathered, _ = edited("inpaint", table, mask, "--feather=2")
    np.testing.assert_array_equal(feathered[:, :3], PIXELS[:, :3])
    assert (feathered[:, 3:5] != PIXELS[:, 3:5]).mean() > 0.5
    jumped, _ = edited("inpaint", table, mask, "--feather=2", "--jumps=2", "--jump-length=1")
    np.testing.assert_array_equal(jumped[:, :3], PIXELS[:, :3])
    assert (jumped[:, 5:] != feathered[:, 5:]).mean() > 0.3


def test_inpaint_fills_what_is_transparent(edited, files, encoder):
    alpha = np.full((7, 10, 1), 255, np.uint8)
    alpha[2:4] = 0
    Image.fromarray(np.concatenate([PIXELS, alpha], 2)).save(files / "hole.png")
    result, _ = edited("inpaint", encoder, picture="hole.png")
    kept = np.arange(7)[~np.isin(np.arange(7), [2, 3])]
    np.testing.assert_array_equal(result[kept], PIXELS[kept])
    assert (result[2:4] != 255).any()


def test_models_of_whole_images_take_what_fits(edited, files, unconditional):
    alpha = np.full((3, 4, 1), 255, np.uint8)
    alpha[0, 0] = 0
    Image.fromarray(np.concatenate([PIXELS[:3, :4], alpha], 2)).save(files / "small.png")
    result, _ = edited("inpaint", unconditional, picture="small.png")
    assert result.shape == (3, 4, 3)
    np.testing.assert_array_equal(result.reshape(-1, 3)[1:], PIXELS[:3, :4].reshape(-1, 3)[1:])


def test_a_picture_of_grey_and_a_model_of_colours(edited, files, encoder):
    Image.fromarray(PIXELS[..., 0]).save(files / "grey.png")
    result, _ = edited("outpaint", encoder, "--right=1", picture="grey.png")
    np.testing.assert_array_equal(result[:, :10], PIXELS[..., :1].repeat(3, 2))


@pytest.mark.parametrize(
    "argv, message",
    [
        (["inpaint"], "has no transparency to fill; say what to fill by --mask=FILE"),
        (["inpaint", "--mask=none.png"], "cannot read none.png: No such file or directory"),
        (["inpaint", "--mask=picture.png", "--feather=-1"], "--feather is -1; expected a number of pixels"),
        (["inpaint", "--mask=mask.png", "--jumps=1", "--jump-length=9"], "jump length 9 needs more than 9 steps"),
        (["inpaint", "--mask=mask.png", "--code=5"], "--code is 5 and this model reads codes by an encoder"),
        (["inpaint", "--mask=mask.png", "--prior=x"], "--prior is for whole images"),
        (["inpaint", "--mask=mask.png", "--out=x.jpg"], "--out is x.jpg; expected a .png, which keeps every pixel"),
        (["inpaint", "--mask=mask.png", "--sampler=euler"], "sampler is 'euler'; expected"),
        (["inpaint", "--mask=mask.png", "--seed=-1"], "--seed is -1; expected 0 to 2**32 - 1"),
        (["outpaint"], "nothing can be added by --top=0"),
    ],
)
def test_mistakes(refused, files, encoder, monkeypatch, argv, message):
    monkeypatch.chdir(files)
    assert message in refused(*argv[:1], "picture.png", *argv[1:], f"--workdir={encoder}")
    assert sorted(path.name for path in files.iterdir()) == ["mask.png", "picture.png"]


def test_codes_that_a_model_has_not(refused, files, table, unconditional):
    picture, mask = files / "picture.png", f"--mask={files}/mask.png"
    line = refused("outpaint", picture, "--left=1", "--code=image", f"--workdir={table}")
    assert "this model has no encoder that reads a picture; give --code=INDEX of a training image" in line
    line = refused("inpaint", picture, mask, "--code=3", f"--workdir={table}")
    assert "--code is 3; expected none, or a training image from 0 to 2" in line
    line = refused("inpaint", picture, mask, f"--workdir={unconditional}")
    assert "would have 7x10 pixels and this model makes 4x4" in line
