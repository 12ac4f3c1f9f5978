"""First stages: sizes, what is limited and looked up, and mistakes. Parity is in `ldm_autoencoder_*`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.networks import Autoencoder, count_params, define
from pdm_jax.networks.autoencoder import draw, split_moments

TINY = {"width": 4, "channel_mult": (1, 2), "num_blocks": 1, "latent_channels": 3, "embed_dim": 2}
CODES = {"kl": 0, "vq": 5}
# FACTS of the released ones, in millions; the last two were not released.
FULL = {
    "kl-f4": ("kl", (1, 2, 4), (), 3, 0, 55.31),
    "kl-f8": ("kl", (1, 2, 4, 4), (), 4, 0, 83.65),
    "kl-f16": ("kl", (1, 1, 2, 2, 4), (4,), 16, 0, 69.61),
    "kl-f32": ("kl", (1, 1, 2, 2, 4, 4), (4, 5), 64, 0, 103.88),
    "vq-f4": ("vq", (1, 2, 4), (), 3, 8192, 55.32),
    "vq-f8": ("vq", (1, 2, 2, 4), (3,), 4, 16384, 67.72),
    "vq-f16": ("vq", (1, 1, 2, 2, 4), (4,), 8, 16384, 69.59),
}


def definition(kind="kl", **settings):
    settings = TINY | {"num_codes": CODES.get(kind, 0)} | settings
    return define(lambda rngs: Autoencoder(kind=kind, **settings, rngs=rngs))


@pytest.fixture(scope="module", params=["kl", "vq"])
def network(request):
    """A tiny first stage and images of it."""
    made = definition(request.param)
    bound = made.bind(jax.jit(made.init)(jax.random.key(0)))
    return bound, jax.random.normal(jax.random.key(1), (2, 4, 6, 3))


@pytest.mark.parametrize("name", FULL)
def test_sizes_of_the_released(name):
    kind, channel_mult, attn_levels, dim, num_codes, millions = FULL[name]
    settings = {"channel_mult": channel_mult, "attn_levels": attn_levels, "num_codes": num_codes}
    made = define(lambda rngs: Autoencoder(kind=kind, latent_channels=dim, embed_dim=dim, **settings, rngs=rngs))
    assert round(count_params(made.shapes) / 1e6, 2) == millions


def test_without_attention_there_are_fewer_parameters():
    with_attention, without = definition().shapes, definition(mid_attention=False).shapes
    assert "attention" in with_attention["encoder"]["middle"] and "attention" not in without["encoder"]["middle"]
    levels = definition(attn_levels=(1,)).shapes["decoder"]["levels"]
    assert len(levels[1]["attentions"]) == 2 and "attentions" not in levels[0]


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 32])
def test_latents_are_f_times_smaller(factor):
    made = definition(channel_mult=(1,) * factor.bit_length())

    def both(params, images):
        bound = made.bind(params)
        mean, log_variance = bound.moments(images)
        return mean, log_variance, bound.decode(mean)

    images = jax.ShapeDtypeStruct((1, 2 * factor, factor, 3), jnp.float32)
    mean, log_variance, found = jax.eval_shape(both, made.shapes, images)
    assert mean.shape == log_variance.shape == (1, 2, 1, 2) and found.shape == images.shape


def test_images_there_and_back(network):
    bound, images = network
    mean, log_variance = jax.jit(lambda x: bound.moments(x))(images)
    assert mean.shape == (2, 2, 3, 2) and (log_variance is None) == (bound.kind == "vq")
    found = jax.jit(lambda z: bound.decode(z))(mean)
    assert found.shape == images.shape and found.dtype == jnp.float32
    apart = jax.jit(lambda z: bound.decoder.conv_out(bound.decoder_features(bound.quantize(z))))(mean)
    np.testing.assert_allclose(apart, found, rtol=1e-5, atol=1e-6)
    alone = jax.jit(lambda z: bound.decode(z))(mean[1:])
    np.testing.assert_allclose(alone, found[1:], rtol=1e-3, atol=1e-5)  # images do not mix


def test_only_vq_looks_latents_up(network):
    bound, _ = network
    z = jax.random.normal(jax.random.key(2), (1, 2, 3, 2))
    is_changed = bool(jnp.any(bound.quantize(z) != z))
    assert is_changed == (bound.kind == "vq")
    plain = jax.jit(lambda z: bound.decode(z, lookup=False))(bound.quantize(z))
    np.testing.assert_allclose(jax.jit(lambda z: bound.decode(z))(z), plain, rtol=1e-4, atol=1e-5)


def test_log_variances_are_limited_and_latents_drawn():
    mean, log_variance = split_moments(jnp.array([[1.0, 2.0, -100.0, 100.0]]))
    np.testing.assert_array_equal(mean, [[1, 2]])
    np.testing.assert_array_equal(log_variance, [[-30, 20]])
    np.testing.assert_allclose(draw(mean, log_variance, jnp.ones((1, 2))), [[1, 2 + np.exp(10)]], rtol=1e-6)
    assert draw(mean, None, jnp.ones((1, 2))) is mean


def test_bfloat16_gives_float32():
    made = definition(dtype=jnp.bfloat16)

    def both(params, images):
        bound = made.bind(params)
        mean, log_variance = bound.moments(images)
        return mean, log_variance, bound.decode(mean)

    found = jax.eval_shape(both, made.shapes, jax.ShapeDtypeStruct((1, 4, 4, 3), jnp.float32))
    assert {x.dtype for x in found} == {jnp.dtype("float32")}


def test_an_image_that_f_does_not_divide_is_refused(network):
    bound, _ = network
    with pytest.raises(UserError, match=r"30x45 .* f = 2; pad or crop .* such as 30x46"):
        bound.moments(jnp.zeros((1, 30, 45, 3)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "vae"}, "kind of an autoencoder is 'vae'"),
        ({"kind": "kl", "num_codes": 3}, "num_codes is 3; expected none for 'kl'"),
        ({"kind": "vq", "num_codes": 0}, "num_codes is 0; expected at least 1"),
        ({"latent_channels": 0}, "latent_channels is 0"),
        ({"attn_levels": (2,)}, "attn_levels"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        definition(**settings)
