"""Pictures of any size through latent diffusion: holes, margins, several times the size; and what does not fit."""

import numpy as np
import pytest
from PIL import Image

from tests.cli.latent_runs import ldm, save

HEIGHT, WIDTH = 13, 18  # neither divides by 4
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
HOLE = np.zeros((HEIGHT, WIDTH), bool)
HOLE[3:10, 7:] = True


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return save(tmp_path_factory.mktemp("plain"), ldm())


@pytest.fixture(scope="module")
def told_of_holes(tmp_path_factory):
    return save(tmp_path_factory.mktemp("inpaint"), ldm(condition={"kinds": ("inpaint",)}))


@pytest.fixture(scope="module")
def told_small(tmp_path_factory):
    return save(tmp_path_factory.mktemp("superres"), ldm(condition={"kinds": ("superres",), "factor": 2}))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with a picture and a mask."""
    Image.fromarray(PIXELS).save(tmp_path / "picture.png")
    Image.fromarray(np.where(HOLE, 255, 0).astype(np.uint8)).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def made(pdm, files):
    """The picture (H, W, 3) that a command makes of the picture, and what it says."""

    def run(command, workdir, *argv, picture="picture.png"):
        status, said, log = pdm(command, picture, f"--workdir={workdir}", "--out=out.png", *argv)
        assert status == 0, log
        return read("out.png"), said

    return run


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_inpaint_by_a_model_that_is_told_of_the_hole(made, told_of_holes):
    result, said = made("inpaint", told_of_holes, "--mask=mask.png", "--compare=compare.png")
    assert f"of {HEIGHT}x{WIDTH} pixels made by checkpoint 0" in said
    np.testing.assert_array_equal(result[~HOLE], PIXELS[~HOLE])
    assert (result[HOLE] != PIXELS[HOLE]).mean() > 0.9 and result[HOLE].std() > 5
    sheet = read("compare.png")
    assert (sheet[:, :WIDTH][HOLE] == 128).all()
    np.testing.assert_array_equal(sheet[:, WIDTH + 4 :], result)
    Image.fromarray(np.where(HOLE[..., None], 255 - PIXELS, PIXELS)).save("other.png")
    np.testing.assert_array_equal(made("inpaint", told_of_holes, "--mask=mask.png", picture="other.png")[0], result)
    Image.fromarray(255 - PIXELS).save("inverse.png")
    inverse, _ = made("inpaint", told_of_holes, "--mask=mask.png", picture="inverse.png")
    assert (inverse[HOLE] != result[HOLE]).mean() > 0.1  # what is around the hole shows in it


def test_inpaint_by_any_model_keeps_what_is_known(made, plain):
    result, _ = made("inpaint", plain, "--mask=mask.png")
    np.testing.assert_array_equal(result[~HOLE], PIXELS[~HOLE])
    assert (result[HOLE] != PIXELS[HOLE]).mean() > 0.9
    feathered, _ = made("inpaint", plain, "--mask=mask.png", "--feather=2", "--jumps=1", "--jump-length=1")
    np.testing.assert_array_equal(feathered[:, :5], PIXELS[:, :5])
    assert (feathered[3:10, 5:7] != PIXELS[3:10, 5:7]).mean() > 0.5


def test_outpaint_by_any_model(made, plain):
    result, said = made("outpaint", plain, "--left=5", "--top=2")
    assert result.shape == (HEIGHT + 2, WIDTH + 5, 3) and f"of {HEIGHT + 2}x{WIDTH + 5} pixels made" in said
    np.testing.assert_array_equal(result[2:, 5:], PIXELS)
    assert result[:, :5].std() > 5


def test_upscale_a_picture(made, told_small):
    result, said = made("upscale", told_small, "--compare=compare.png")
    assert result.shape == (2 * HEIGHT, 2 * WIDTH, 3) and result.std() > 5
    assert f"{2 * HEIGHT}x{2 * WIDTH} pixels of {HEIGHT}x{WIDTH} by checkpoint 0" in said
    sheet = read("compare.png")
    bicubic = Image.fromarray(PIXELS).resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(sheet[:, : 2 * WIDTH], np.asarray(bicubic))
    np.testing.assert_array_equal(sheet[:, 2 * WIDTH + 4 :], result)
    Image.fromarray(255 - PIXELS).save("inverse.png")
    assert (made("upscale", told_small, picture="inverse.png")[0] != result).mean() > 0.5


@pytest.mark.parametrize(
    "command, argv, message",
    [
        (
            "upscale",
            ["--num=2"],
            "a picture is made once, 2 times as large as this model does it; drop --num, --factor",
        ),
        ("upscale", ["--factor=3"], "drop --num, --factor"),
        ("upscale", ["--out=x.npz"], "--out is x.npz; expected a .png, which keeps every pixel"),
        ("upscale", ["--prompt=a cat"], "--prompt and --told are for models told more than a picture"),
        ("upscale", ["--tile=9"], "cannot be halved"),
        ("inpaint", ["--mask=mask.png"], "this model is told low besides the picture; give --told=SOURCE"),
        ("extend", ["--left=1"], "needs one of patch_dm"),
    ],
)
def test_mistakes(refused, files, told_small, command, argv, message):
    picture = [] if command == "extend" else ["picture.png"]
    assert message in refused(command, *picture, f"--workdir={told_small}", *argv)
    assert sorted(path.name for path in files.iterdir()) == ["mask.png", "picture.png"]


def test_pictures_and_models_that_do_not_fit(refused, files, plain, told_small):
    line = refused("upscale", "picture.png", f"--workdir={plain}")
    assert "holds a model that is told of no small picture; give one with 'superres'" in line
    line = refused("upscale", f"--workdir={told_small}")
    assert "needs one of patch_dm (pdm sample and pdm inpaint take others, pdm upscale PICTURE those of" in line
