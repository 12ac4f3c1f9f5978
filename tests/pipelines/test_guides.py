"""Guides in the sampling loop: towards a picture, at its own size too, and by LPIPS."""

import dataclasses

import jax
import numpy as np
import pytest

from pdm_jax.config import MeshConfig
from pdm_jax.networks import define
from pdm_jax.networks.lpips import LPIPS
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.edit import make_edit
from pdm_jax.pipelines.generate import generate, make_generate
from pdm_jax.pipelines.guides import picture_guide
from pdm_jax.pipelines.layouts import whole
from tests import tiny
from tests.pipelines import formulas

SIZE = (32, 32)
SYSTEM = formulas.system(lambda z_t, t: 0.5 * z_t, shape=(*SIZE, 3))
MESH = make_mesh(MeshConfig(), jax.devices()[:1])
SAMPLING = dataclasses.replace(tiny.config().sample, steps="6")
# Bright above, dark below, and a little noise, so that features differ.
PICTURE = np.full((*SIZE, 3), 40, np.uint8) + np.random.default_rng(0).integers(0, 30, (*SIZE, 3)).astype(np.uint8)
PICTURE[:16] += 150


def images(make, *arguments, guides=()):
    params = {name: tree for guide in guides for name, tree in guide.params.items()}
    run = make(SYSTEM, SAMPLING, MESH, *arguments, guides=guides)
    return np.concatenate(list(generate(run, params, 0, 2, {}, MESH, batch_size=2))).astype(float)


@pytest.fixture(scope="module")
def plain():
    return images(make_generate)


def small(pictures):
    """Means of blocks of 8x8 pixels."""
    return pictures.reshape(*pictures.shape[:-3], 4, 8, 4, 8, 3).mean((-4, -2))


def test_towards_a_picture(plain):
    guide = picture_guide(SYSTEM, PICTURE, "l2", 2.0)
    guided = images(make_generate, guides=[guide])
    assert np.abs(guided - PICTURE).mean() < 0.7 * np.abs(plain - PICTURE).mean()
    np.testing.assert_allclose(images(make_edit, whole(SIZE, SIZE, (0,) * 4), guides=[guide]), guided, atol=1)
    np.testing.assert_allclose(images(make_generate, guides=[picture_guide(SYSTEM, PICTURE, "l2", 0.0)]), plain, atol=1)


def test_towards_a_small_picture_leaves_details_free(plain):
    thumbnail = np.round(small(PICTURE)).astype(np.uint8)
    guided = images(make_generate, guides=[picture_guide(SYSTEM, thumbnail, "lowres", 40.0)])
    assert np.abs(small(guided) - thumbnail).mean() < 0.7 * np.abs(small(plain) - thumbnail).mean()
    detail = [np.abs(x - np.kron(small(x), np.ones((1, 8, 8, 1)))).mean() for x in (plain, guided)]
    assert detail[1] > 0.5 * detail[0]


def test_by_lpips(plain):
    definition = define(lambda rngs: LPIPS("alex", rngs=rngs))
    network = definition, definition.init(jax.random.key(0))
    guided = images(make_generate, guides=[picture_guide(SYSTEM, PICTURE, "lpips", 300.0, network)])
    distance = jax.jit(lambda x: definition.bind(network[1])(x / 127.5 - 1, np.stack([PICTURE] * 2) / 127.5 - 1))
    before, after = (distance(x.astype(np.float32)) for x in (plain, guided))
    assert (after < before).all()


def test_what_images_depend_on():
    first = picture_guide(SYSTEM, PICTURE, "l2", 1.0).about
    assert first == picture_guide(SYSTEM, PICTURE.copy(), "l2", 1.0).about
    flipped = picture_guide(SYSTEM, np.ascontiguousarray(PICTURE[::-1]), "l2", 1.0).about
    assert first not in (flipped, picture_guide(SYSTEM, PICTURE, "l2", 2.0).about)
