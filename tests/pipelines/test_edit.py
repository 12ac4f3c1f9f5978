"""Canvases and known pictures through the whole sampling loop, with a tiny Patch-DM whose weights are random."""

import dataclasses

import jax
import numpy as np
import pytest

from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError
from pdm_jax.ops.masks import known_weights
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.edit import Known, make_edit
from pdm_jax.pipelines.generate import generate, make_generate, tell
from pdm_jax.pipelines.layouts import around, extended, upscaled, whole
from pdm_jax.systems import make_system
from tests import tiny

SIZE, PATCH = (8, 12), 4
CONFIG = tiny.config(
    data={"image_size": SIZE},
    model={
        "system": "patch_dm",
        "backbone": "patch_unet",
        "patch_size": PATCH,
        "prediction": "x0",
        "num_classes": 0,
        "network": {"width": 32, "channel_mult": (1,), "num_blocks": 1, "embed_dim": 32},
    },
    codes={"kind": "table", "dim": 32, "num": 3},
    loss={"kind": "shifted", "target": "x0", "vlb_weight": 0.0, "label_dropout": 0.0, "position_dropout": 0.5},
    sample={"sampler": "ddim", "steps": "4", "clip": "static"},
)


@pytest.fixture(scope="module")
def system():
    return make_system(CONFIG)


@pytest.fixture(scope="module")
def params(system):
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda x: generator.normal(0, 0.2, x.shape).astype(np.float32), system.shapes)


def made(system, params, run, num=2, code=1):
    told = tell(system, "cycle", num, params["codes"]["table"][code : code + 1])
    batches = generate(run, params, 0, num, told, make_mesh(MeshConfig()), batch_size=8)
    return np.concatenate(list(batches)).astype(int)


def edited(system, params, layout, mesh=None, num=2, code=1, settings=None, **options):
    sampling = dataclasses.replace(CONFIG.sample, **settings or {})
    run = make_edit(system, sampling, make_mesh(mesh or MeshConfig()), layout, **options)
    return made(system, params, run, num, code)


@pytest.fixture(scope="module")
def plain(system, params):
    return made(system, params, make_generate(system, CONFIG.sample, make_mesh(MeshConfig())))


@pytest.mark.parametrize(
    "layout", [upscaled(SIZE, PATCH, 1), extended(SIZE, PATCH, (0, 0, 0, 0)), whole(SIZE, SIZE, (0,) * 4)]
)
def test_the_trained_canvas_gives_the_images_of_pdm_sample(system, params, plain, layout):
    assert plain.std() > 20
    np.testing.assert_allclose(edited(system, params, layout), plain, atol=1)


def test_larger_canvases_are_told_their_positions(system, params):
    large = edited(system, params, upscaled(SIZE, PATCH, 2))
    assert large.shape == (2, 16, 24, 1) and large.std() > 20
    layout = extended(SIZE, PATCH, (0, 0, 1, 1))
    wide = edited(system, params, layout)
    assert wide.shape == (2, 8, 20, 1)
    everywhere = dataclasses.replace(layout, position=layout.position * 0 + 1)
    assert np.abs(edited(system, params, everywhere) - wide).max() > 3


def picture(layout, size):
    """A picture of noise on a canvas, of which a corner is missing, and the hole on the canvas."""
    image = np.random.default_rng(1).integers(0, 256, (*size, 1)).astype(np.uint8)
    weights = np.ones((*size, 1), np.float32)
    weights[:3, :3] = 0
    return Known(layout.place(image), layout.place(weights))


@pytest.mark.parametrize("mesh", [MeshConfig(), MeshConfig(space=2)])
@pytest.mark.parametrize("num_jumps", [0, 2])
def test_known_pixels_are_kept_to_the_byte_and_others_are_made(system, params, mesh, num_jumps):
    layout = around(SIZE, PATCH, (7, 10), (1, 2, 0, 3))
    known = picture(layout, (10, 13))
    images = edited(system, params, layout, mesh, known=known, jump_length=2, num_jumps=num_jumps)
    assert images.shape == (2, 16, 16, 1)
    kept = np.broadcast_to(known.weights == 1, images.shape)
    np.testing.assert_array_equal(images[kept], np.stack([known.image] * 2)[kept])
    assert images[~kept].std() > 20 and (images[0] != images[1])[~kept[0]].mean() > 0.5


def test_what_is_known_shows_in_what_is_made(system, params):
    layout = around(SIZE, PATCH, SIZE, (0, 0, 0, 0))
    known = picture(layout, SIZE)
    hole = known.weights[..., 0] == 0
    first = edited(system, params, layout, known=known)
    other = edited(system, params, layout, known=known._replace(image=255 - known.image))
    assert (first[:, hole] != other[:, hole]).mean() > 0.3
    jumped = edited(system, params, layout, known=known, jump_length=2, num_jumps=1)
    assert (first[:, hole] != jumped[:, hole]).mean() > 0.3


def test_a_feather_blends_beside_the_hole_only(system, params):
    layout = around(SIZE, PATCH, SIZE, (0, 0, 0, 0))
    known = picture(layout, SIZE)
    weights = known_weights(known.weights[..., 0] == 0, 2)[..., None]
    images = edited(system, params, layout, known=known._replace(weights=weights))
    changed = (images != known.image).any((0, 3))
    assert changed[:5, :5].mean() > 0.5 and not changed[5:].any() and not changed[:, 5:].any()


def test_mistakes(system):
    mesh = make_mesh(MeshConfig(space=8))
    with pytest.raises(UserError, match=r"space is 8 .* the 12 rows of the canvas"):
        make_edit(system, CONFIG.sample, mesh, extended(SIZE, PATCH, (1, 0, 0, 0)))
    with pytest.raises(UserError, match="jump length 0"):
        make_edit(system, CONFIG.sample, mesh, upscaled(SIZE, PATCH, 1), jump_length=0, num_jumps=1)
