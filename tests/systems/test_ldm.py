"""Latent diffusion as a system: latents, what it is told, what is dropped and what is null."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.systems import make_system
from pdm_jax.systems.conditions import task_inputs
from pdm_jax.types import Step
from tests import tiny

TOKENS = {"vocab_size": 50, "max_length": 7, "width": 16, "num_layers": 1, "num_heads": 2, "head_dim": 8}
KINDS = {
    "none": ((), {}, {}),
    "label": ((), {}, {"num_classes": 3}),
    "class": (("class",), {"class": {"width": 16}}, {"num_classes": 3}),
    "text": (("text",), {"text": TOKENS}, {}),
    "layout": (("layout",), {"layout": {**TOKENS, "max_length": 8}}, {}),
    "semantic": (("semantic",), {"semantic": {"in_channels": 5, "out_channels": 3, "num_halvings": 1}}, {}),
    "superres": (("superres",), {}, {}),
    "inpaint": (("inpaint",), {}, {}),
    "hybrid": (("text", "inpaint"), {"text": TOKENS}, {}),
    "patches": (("text", "superres"), {"text": TOKENS}, {"patch_size": 2}),
}


def config(kind, **groups):
    kinds, networks, model = KINDS[kind]
    condition = {"kinds": kinds, "networks": networks, "factor": 2}
    loss = {"label_dropout": 0.5, "context_dropout": 0.5}
    return tiny.ldm_config(**{"condition": condition, "model": model, "loss": loss, **groups})


def arrays(shapes, size=2):
    """Ones of these shapes, a batch of them."""
    return {name: jnp.ones((size, *x.shape), x.dtype) for name, x in shapes.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_loss_and_denoises_with_and_without_its_condition(kind):
    system = make_system(config(kind))
    told = {name: jax.ShapeDtypeStruct((2, *x.shape), x.dtype) for name, x in system.told.items()}
    batch = {name: jax.ShapeDtypeStruct((2, *x.shape), x.dtype) for name, x in system.inputs.items()}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    loss, _ = jax.eval_shape(system.losses["network"], system.all_shapes, batch, keys, jnp.int32(0))
    assert loss.shape == (2,)

    def predictions(params, told, z):
        cond = system.cond(params, told, z.shape)
        return [system.denoiser(params)(z, Step(t=jnp.int32(5)), c).eps for c in (cond, system.null(params, cond))]

    z = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    assert [x.shape for x in jax.eval_shape(predictions, system.all_shapes, told, z)] == [(2, 8, 8, 3)] * 2


@pytest.fixture(scope="module")
def text():
    """A model of captions whose output depends on them, and its parameters."""
    system = make_system(config("hybrid"))
    params = system.init(jax.random.key(0))
    unet = params["network"]["unet"]
    filled = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), unet)
    params["network"]["unet"] = filled
    first = make_system(tiny.autoencoder_config()).init(jax.random.key(1))["first_stage"]
    return system, params | {"first_stage": first, "scale": jnp.float32(2), "null_tokens": jnp.arange(7)}


def test_null_takes_the_empty_caption_and_leaves_what_lies_beside(text):
    system, params = text
    told = arrays(system.told) | {"tokens": jnp.full((2, 7), 9)}

    @jax.jit
    def conditions(params, told):
        cond = system.cond(params, told, (2, 8, 8, 3))
        empty = system.cond(params, told | {"tokens": jnp.broadcast_to(params["null_tokens"], (2, 7))}, (2, 8, 8, 3))
        return cond, system.null(params, cond), empty

    cond, null, empty = conditions(params, told)
    np.testing.assert_allclose(null.context, empty.context, atol=1e-6)
    np.testing.assert_array_equal(null.concat, cond.concat)
    assert float(jnp.abs(null.context - cond.context).max()) > 0.1


def test_what_surrounds_the_hole_is_told_and_the_hole_is_not(text):
    system, params = text
    image = jax.random.randint(jax.random.key(0), (2, 16, 16, 3), 0, 256).astype(jnp.uint8)
    mask = jnp.zeros((2, 16, 16, 1), jnp.uint8).at[:, 4:12, 4:12].set(1)
    told = arrays(system.told) | {"tokens": jnp.zeros((2, 7), jnp.int32), "image": image, "mask": mask}
    concat = jax.jit(lambda params, told: system.cond(params, told, (2, 8, 8, 3)).concat)
    seen = concat(params, told)
    hidden = concat(params, told | {"image": jnp.where(mask == 1, 7, image).astype(jnp.uint8)})
    other = concat(params, told | {"image": 255 - image})
    np.testing.assert_array_equal(seen, hidden)
    assert float(jnp.abs(seen - other).max()) > 0.01
    assert set(np.unique(seen[..., -1])) == {-1.0, 1.0} and float(seen[:, 2:6, 2:6, -1].min()) == 1


def test_latents_are_scaled_drawn_and_decoded(text):
    system, params = text
    batch = {"image": jax.random.randint(jax.random.key(0), (2, 16, 16, 3), 0, 256).astype(jnp.uint8)}
    space, keys = system.space, jax.random.split(jax.random.key(0), 2)
    start = jax.jit(space.start)
    z, again, other = (start(params, batch, k) for k in (keys, keys, keys[::-1]))
    np.testing.assert_array_equal(z, again)
    assert not np.array_equal(z, other)  # of kl, latents are samples
    np.testing.assert_allclose(z, 2 * start(params | {"scale": jnp.float32(1)}, batch, keys), rtol=1e-6)
    decode = jax.jit(space.decode, static_argnums=2)
    np.testing.assert_allclose(decode(params, z), decode(params | {"scale": jnp.float32(1)}, z / 2), atol=1e-6)
    assert decode(params, z).shape == (2, 16, 16, 3)


def test_captions_are_dropped_as_often_as_asked(text):
    _, params = text
    for probability in (0.0, 1.0):
        system = make_system(config("text", loss={"context_dropout": probability}))
        batch = arrays(system.inputs) | {"tokens": jnp.full((2, 7), 9)}
        keys = jax.random.split(jax.random.key(0), 2)
        assert system.has_null == (probability > 0)
        told = {"tokens": params["null_tokens"][None].repeat(2, 0) if probability else batch["tokens"]}
        same = {**batch, **told}
        loss = jax.jit(lambda p, b, k, system=system: system.losses["network"](p, b, k, jnp.int32(0))[0])
        whole = make_system(config("text", loss={"context_dropout": 0.0}))
        wanted = jax.jit(lambda p, b, k, whole=whole: whole.losses["network"](p, b, k, jnp.int32(0))[0])
        own = {**params, "network": {**params["network"], "unet": _narrow(params, system)}}
        np.testing.assert_allclose(loss(own, batch, keys), wanted(own, same, keys), rtol=1e-5)


def _narrow(params, system):
    """The U-Net's parameters with an input convolution of this system's width."""
    shapes = system.shapes["network"]["unet"]
    return jax.tree.map(lambda x, s: x[tuple(map(slice, s.shape))], params["network"]["unet"], shapes)


def test_data_is_asked_for_what_the_networks_take():
    inputs = task_inputs(config("layout", condition={**_condition("layout"), "networks": {"layout": LAYOUT}}))
    assert (inputs.kinds, inputs.max_objects, inputs.layout_tokens) == (("layout",), 30, 8192)


LAYOUT = {**TOKENS, "vocab_size": 8192, "max_length": 92}


def _condition(kind):
    kinds, networks, _ = KINDS[kind]
    return {"kinds": kinds, "networks": networks}


def _labels():
    return {"loss": {"label_dropout": 0.1}}


UNET = tiny.LDM["model"]["network"]
THIRDS = {"in_channels": 5, "out_channels": 3, "num_halvings": 3}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"condition": {"kinds": ("sound",)}}, "has 'sound'; expected some of"),
        ({"condition": {"kinds": ("text", "layout")}}, "at most one of class, text, layout"),
        ({"condition": {"kinds": ("text",), "networks": {"class": {}}}}, "has 'class', which nothing uses"),
        ({"condition": _condition("class")}, "num_classes is 0"),
        ({"condition": {"kinds": ("superres",), "factor": 4}}, "set it to 2"),
        ({"condition": {"kinds": ("text",)}}, "networks.text.vocab_size is missing"),
        ({**_labels(), "model": {"num_classes": 3, "network": {**UNET, "has_null": False}}}, "needs a null label"),
        ({"condition": {"kinds": ("layout",), "networks": {"layout": {**TOKENS, "max_length": 7}}}}, "such as 5"),
        ({"condition": {"kinds": ("semantic",), "networks": {"semantic": THIRDS}}}, "so set it to 1"),
        ({"data": {"image_size": 15}}, "15x15 do not divide by the first stage's 2; crop them, or pad them to 16x16"),
        ({"data": {"source": "latents:x"}, "condition": {"kinds": ("inpaint",)}}, "data of latents lack"),
        ({"latent": {"kind": "none", "first_stage": "x"}}, "give its kind"),
        ({"latent": {"network": None}}, "config.latent.network is not set"),
        ({"latent": {"scale": -1.0}}, "config.latent.scale is -1.0"),
        ({"model": {"backbone": "vit"}}, "the system ldm has ldm_unet"),
        ({"model": {"system": "pdm"}, "condition": {"kinds": ("superres",)}}, "leave it out, or use ldm"),
        ({"split": {"boundaries": 500}, "condition": _condition("text")}, "a network of its own"),
    ],
)
def test_settings_that_do_not_fit_are_named(groups, message):
    with pytest.raises(UserError, match=message):
        make_system(tiny.ldm_config(**groups))
