"""Generation: image i is the same in any batch; labels by name; what does not fit is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.generate import choose_labels, generate, make_generate
from pdm_jax.systems import make_system
from tests import tiny


@pytest.fixture(scope="module")
def system():
    return make_system(tiny.config())


@pytest.fixture(scope="module")
def params(system):
    leaves, tree = jax.tree.flatten(jax.jit(system.init)(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    # Layers that start at zero get something to say, so that labels and noise matter.
    moved = [x + 0.1 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


def images(system, params, num, batch_size, labels, **settings):
    mesh = make_mesh(tiny.config().mesh)
    run = make_generate(system, dataclasses.replace(tiny.config().sample, **settings), mesh)
    return np.concatenate(list(generate(run, params, 0, num, labels, mesh, batch_size=batch_size)))


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_an_image_does_not_depend_on_its_batch(system, params, sampler):
    labels = choose_labels("cycle", 19, 2)
    whole = images(system, params, 19, 24, labels, sampler=sampler)
    parts = images(system, params, 11, 8, labels[:11], sampler=sampler)
    assert whole.shape == (19, 4, 4, 1) and whole.dtype == np.uint8
    assert len(np.unique(whole.reshape(19, -1), axis=0)) == 19
    assert np.abs(whole[:11].astype(int) - parts.astype(int)).max() <= 1  # rounding may cross a level


def test_guidance_of_one_is_none_and_more_changes_images(system, params):
    labels = choose_labels("0", 8, 2)
    plain, guided = (images(system, params, 8, 8, labels, guidance=w, clip="static") for w in (1.0, 4.0))
    assert (plain != guided).any()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sampler": "euler"}, "sampler is 'euler'; expected 'ancestral'"),
        ({"steps": "ddim37"}, "nearest that do"),
        ({"eta": 2.0}, "eta is 2.0"),
        ({"clip": "hard"}, "'hard'"),
    ],
)
def test_settings_that_do_not_exist_are_named(system, params, settings, message):
    with pytest.raises(UserError, match=message):
        images(system, params, 8, 8, choose_labels("cycle", 8, 2), **settings)


def test_labels_by_name():
    np.testing.assert_array_equal(choose_labels("cycle", 5, 3), [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(choose_labels("2,0", 5, 3), [2, 0, 2, 0, 2])
    assert choose_labels("cycle", 5, 0) is None
    with pytest.raises(UserError, match="no class 3; this model has the classes 0 to 2"):
        choose_labels("3", 1, 3)
    with pytest.raises(UserError, match="'dog' are not understood"):
        choose_labels("dog", 1, 3)
    with pytest.raises(UserError, match="unconditional"):
        choose_labels("1", 1, 0)


def test_an_unconditional_model_cannot_be_guided():
    unconditional = make_system(tiny.config(model={"num_classes": 0}))
    with pytest.raises(UserError, match="needs a class-conditional model"):
        make_generate(
            unconditional, dataclasses.replace(tiny.config().sample, guidance=2.0), make_mesh(tiny.config().mesh)
        )
