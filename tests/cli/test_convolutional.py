"""Convolutional sampling: `pdm sample --size` of any height and width that divide, in tiles, in bounded memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import MeshConfig
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.mirrored import mirrored, side_multiple
from pdm_jax.pipelines.restore import read_config, restore_model
from pdm_jax.systems import make_system
from tests import tiny
from tests.cli.latent_runs import ldm, save


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save(tmp_path_factory.mktemp("run"), ldm())


@pytest.fixture
def sample(pdm, run, tmp_path):
    def make(*argv):
        out = tmp_path / "samples.npz"
        status, _, log = pdm("sample", f"--workdir={run}", "--num=1", f"--out={out}", *argv)
        assert status == 0, log
        with np.load(out) as arrays:
            return arrays["arr_0"].astype(int)

    return make


def test_images_of_another_size(sample):
    whole = sample("--size=20x28")
    assert whole.shape == (1, 20, 28, 3) and whole.std() > 5
    np.testing.assert_array_equal(sample("--size=20x28", "--tile=14", "--decode-tile=14"), whole)  # one tile
    tiled = sample("--size=20x28", "--tile=8", "--decode-tile=8")
    assert tiled.shape == whole.shape and 0 < np.abs(tiled - whole).mean() < whole.std()


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--size=22x32"], "--size is 22x32 and this model makes sides that divide by 4; the nearest is 24x32"),
        (["--size=1"], "--size is 1x1 and this model makes sides that divide by 4; the nearest is 4x4"),
        (["--size=wide"], "'wide' is no size"),
        (["--size=32", "--tile=9"], "cannot be halved"),
        (["--size=32", "--tile=4"], "tile"),
    ],
)
def test_sizes_that_do_not_divide(refused, run, tmp_path, argv, message):
    assert message in refused("sample", f"--workdir={run}", f"--out={tmp_path}/x.png", *argv)
    assert not list(tmp_path.iterdir())


def test_pixels_have_the_size_they_were_trained_at(refused, unconditional):
    assert "--size is for latent diffusion" in refused("sample", f"--workdir={unconditional}", "--size=8")


@pytest.mark.parametrize(
    "config, multiple, canvas",
    [
        (ldm(), 4, (16, 12)),
        (ldm(model={"patch_size": 2}), 8, (16, 16)),
        (tiny.ldm_config(), 2, (14, 10)),
        (ldm(split={"boundaries": 500}, model={"patch_size": (2, 1)}), 8, (16, 16)),
    ],
)
def test_what_sides_divide_by(config, multiple, canvas):
    assert side_multiple(config) == multiple
    larger, layout = mirrored(config, (13, 9), "a.png")
    assert layout.size == larger.data.size == canvas
    make_system(larger)


def decoding_bytes(run, side, tile):
    """Of memory, beside arguments and result, that decoding latents of side x side takes."""
    config, mesh = read_config(run), make_mesh(MeshConfig(), jax.devices()[:1])
    system = make_system(config)
    params = restore_model(run, system, config, mesh).params
    z = jax.ShapeDtypeStruct((1, side, side, system.space.shape[2]), jnp.float32)
    compiled = jax.jit(lambda params, z: system.space.decode(params, z, tile)).lower(params, z).compile()
    return compiled.memory_analysis().temp_size_in_bytes - 4 * (2 * side) ** 2 * 3


def test_decoding_in_tiles_takes_the_memory_of_a_tile(run):
    small, large = (decoding_bytes(run, side, 16) for side in (32, 96))
    whole = decoding_bytes(run, 96, None)
    assert large < 3 * small and large < whole / 8
