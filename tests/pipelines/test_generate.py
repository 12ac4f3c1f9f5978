"""Generation: image i is the same in any batch; guidance; ranges of steps; what does not fit is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.generate import choose_labels, generate, make_generate
from pdm_jax.systems import make_system
from tests import tiny
from tests.pipelines import formulas


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


def images(system, params, num, batch_size, labels, *, steps_in=None, start=None, mesh=None, **settings):
    mesh = make_mesh(mesh or MeshConfig())
    run = make_generate(system, dataclasses.replace(tiny.config().sample, **settings), mesh, steps=steps_in)
    told = {} if labels is None else {"label": labels}
    return np.concatenate(list(generate(run, params, 0, num, told, mesh, batch_size=batch_size, images=start)))


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_an_image_does_not_depend_on_its_batch(system, params, sampler):
    labels = choose_labels("cycle", 19, 2)
    whole = images(system, params, 19, 24, labels, sampler=sampler)
    parts = images(system, params, 11, 8, labels[:11], sampler=sampler)
    assert whole.shape == (19, 4, 4, 1) and whole.dtype == np.uint8
    assert len(np.unique(whole.reshape(19, -1), axis=0)) == 19
    assert np.abs(whole[:11].astype(int) - parts.astype(int)).max() <= 1  # rounding may cross a level


@pytest.mark.parametrize("mesh", [MeshConfig(data=2, space=4), MeshConfig(data=2, fsdp=4)])
def test_the_mesh_changes_nothing(mesh):
    system = make_system(tiny.config(data={"image_size": 16}))
    params = jax.jit(system.init)(jax.random.key(0))
    labels = choose_labels("cycle", 4, 2)
    settings = {"sampler": "ancestral", "guidance": 2.0, "clip": "dynamic"}
    alone, together = (images(system, params, 4, 4, labels, mesh=m, **settings) for m in (None, mesh))
    assert np.abs(alone.astype(int) - together.astype(int)).max() <= 1


def test_rows_that_devices_cannot_share_are_refused(system, params):
    with pytest.raises(UserError, match=r"space is 8 .* the 4 rows of an image; the nearest that does is 4"):
        images(system, params, 1, 1, None, mesh=MeshConfig(space=8))


def test_guidance_of_one_is_none_and_more_changes_images(system, params):
    labels = choose_labels("0", 8, 2)
    plain, guided = (images(system, params, 8, 8, labels, guidance=w, clip="static") for w in (1.0, 4.0))
    assert (plain != guided).any()


def test_guidance_acts_in_its_interval_only(system, params):
    labels = choose_labels("0", 8, 2)  # the steps are 0, 333, 666 and 999

    def made(**settings):
        return images(system, params, 8, 8, labels, clip="static", **settings)

    guided = made(guidance=4.0)
    np.testing.assert_array_equal(made(guidance=4.0, guidance_from=334, guidance_to=666), made())
    np.testing.assert_array_equal(made(guidance=4.0, guidance_to=1000), guided)
    assert (made(guidance=4.0, guidance_from=333) != guided).any()


def test_the_percentile_and_the_last_step():
    ramp = formulas.system(lambda z_t, t: jnp.broadcast_to(jnp.linspace(0, 4, 8)[None, :, None, None], z_t.shape))

    def column(**settings):
        return images(ramp, {}, 8, 8, None, clip="dynamic", **settings)[0, :, 0, 0]

    np.testing.assert_array_equal(column(percentile=100.0), np.linspace(127.5, 255, 8).astype(np.uint8))
    assert column(percentile=50.0)[4] == 255  # half of the pixels are cut
    np.testing.assert_array_equal(column(percentile=100.0, unguided_last=True)[2:], 255)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral-large"])
@pytest.mark.parametrize("last_alpha", ["one", "first"])
@pytest.mark.parametrize("steps_in, last", [((500, 1000), 666), ((0, 500), 0), ((300, 600), 333), (None, 0)])
def test_a_range_of_steps_ends_with_the_image_that_is_predicted_there(sampler, last_alpha, steps_in, last):
    clock = formulas.system(lambda z_t, t: jnp.full_like(z_t, 1) * t.astype(jnp.float32) / 1000)
    start = None if steps_in in (None, (500, 1000)) else np.zeros((8, 8, 8, 1), np.uint8)
    got = images(clock, {}, 8, 8, None, steps_in=steps_in, start=start, sampler=sampler, last_alpha=last_alpha)
    np.testing.assert_array_equal(got, int((last / 1000 + 1) * 127.5))


def test_a_lower_range_starts_from_noised_images():
    faint = formulas.system(lambda z_t, t: 0.1 * z_t, shape=(32, 32, 1))
    grey = np.full((11, 32, 32, 1), 127, np.uint8)
    noised = images(faint, {}, 11, 8, None, steps_in=(300, 600), start=grey)
    assert noised.std() / 12.75 == pytest.approx(formulas.PROCESS.sigma[333], rel=0.02)
    truth = formulas.system(lambda z_t, t: z_t)
    pictures = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 1)).astype(np.uint8)
    got = images(truth, {}, 11, 8, None, steps_in=(0, 1), start=pictures)
    assert np.abs(got.astype(int) - pictures).max() <= 8  # t = 0 has a noise of 0.01
    np.testing.assert_array_equal(got[:5], images(truth, {}, 5, 8, None, steps_in=(0, 1), start=pictures[:5]))


def test_a_range_that_no_step_visits_is_refused():
    with pytest.raises(UserError, match=r"steps '4' visit none of \[100, 200\)"):
        images(formulas.system(lambda z_t, t: z_t), {}, 8, 8, None, steps_in=(100, 200))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sampler": "euler"}, "sampler is 'euler'; expected 'ancestral'"),
        ({"steps": "ddim37"}, "nearest that do"),
        ({"eta": 2.0}, "eta is 2.0"),
        ({"clip": "hard"}, "'hard'"),
        ({"percentile": 101.0}, "percentile of dynamic thresholding is 101"),
        ({"guidance": 2.0, "guidance_from": 500, "guidance_to": 300}, r"steps \[500, 300\); expected 0 <= from < to"),
        ({"guidance": float("inf")}, "guidance is inf"),
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
    with pytest.raises(UserError, match="needs a model told of classes"):
        make_generate(
            unconditional, dataclasses.replace(tiny.config().sample, guidance=2.0), make_mesh(tiny.config().mesh)
        )


@pytest.mark.parametrize("steps_in, start", [((0, 500), None), (None, np.zeros((8, 8, 8, 1), np.uint8))])
def test_images_go_with_a_lower_range_of_steps(steps_in, start):
    with pytest.raises(UserError, match="starts from images, any other from noise"):
        images(formulas.system(lambda z_t, t: z_t), {}, 8, 8, None, steps_in=steps_in, start=start)


def test_a_model_that_never_dropped_labels_cannot_be_guided():
    for config in (
        tiny.config(loss={"label_dropout": 0.0}),
        tiny.config(split={"boundaries": 500, "parts": [{"loss": {"label_dropout": 0.0}}, {}]}),
    ):
        with pytest.raises(UserError, match=r"guidance 2 needs .* config.loss.label_dropout above 0"):
            make_generate(make_system(config), dataclasses.replace(config.sample, guidance=2.0), make_mesh(config.mesh))
