"""What works on pixels works on latents: patches, several networks, feature collage, rows over devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import MeshConfig
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.generate import generate, make_generate
from pdm_jax.systems import make_system, parts_of
from pdm_jax.systems.latent import SCALE
from pdm_jax.types import Step
from tests import tiny

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
STAGE = {"width": 32, "channel_mult": (1, 1, 1), "num_blocks": 1, "latent_channels": 2, "embed_dim": 3}  # f = 4
PDM = {
    "system": "pdm",
    "backbone": "pdm_unet",
    "network": {"width": 32, "channel_mult": (1,), "num_blocks": 1, "head_dim": 32, "learn_variance": False},
}
MODELS = {"pdm": PDM, "ldm": {}}


def latent_config(model=None, **groups):
    """Images of 16x16 as latents of 4x4."""
    return tiny.ldm_config(**{"latent": {"network": STAGE}, "model": model or {}, **groups})


def one_device():
    return make_mesh(MeshConfig(), jax.devices()[:1])


def weights(system, seed=0):
    """Weights of which none is zero, those of the first stage too: each output depends on each input."""
    leaves, tree = jax.tree.flatten(system.all_shapes)
    generator = np.random.default_rng(seed)
    drawn = [(0.1 * generator.standard_normal(x.shape)).astype(x.dtype) for x in leaves]
    return jax.tree.unflatten(tree, drawn) | ({SCALE: jnp.float32(0.5)} if SCALE in system.frozen else {})


def learns(system):
    """Whether the loss of each image is its own, and moves more than half of the arrays that are trained."""
    params, keys = weights(system), jax.random.split(jax.random.key(0), len(IMAGES))

    def mean_loss(network):
        batch = {"image": np.resize(IMAGES, (len(IMAGES), *system.space.picture))}
        losses, _ = system.losses["network"]({**params, "network": network}, batch, keys, jnp.int32(0))
        return losses.mean(), losses

    grads, losses = jax.jit(jax.grad(mean_loss, has_aux=True))(params["network"])
    moved = [np.abs(x).max() > 0 for x in jax.tree.leaves(grads)]  # biases before a norm of one channel never are
    return np.isfinite(losses).all() and np.ptp(losses) > 0 and np.mean(moved) > 0.5


def sampled(system, params, num=3, mesh=None, **settings):
    mesh = mesh or one_device()
    run = make_generate(system, dataclasses.replace(tiny.ldm_config().sample, steps="2", **settings), mesh)
    told = {name: np.zeros((num, *x.shape), x.dtype) for name, x in system.told.items()}
    return np.concatenate(list(generate(run, params, 0, num, told, mesh, batch_size=num)))


def said(system, params, z_t, t):
    """x0 (B, h, w, c) at a scalar t."""
    cond = system.cond(params, {}, z_t.shape)
    return jax.jit(lambda z: system.denoiser(params)(z, Step(t=jnp.int32(t)), cond).x0)(z_t)


@pytest.mark.parametrize("name", [pytest.param("ldm", marks=pytest.mark.slow), "pdm"])
def test_patches_of_latents(name):
    system = make_system(latent_config({**MODELS[name], "patch_size": 2}))
    assert system.image_shape == (4, 4, 3)
    assert learns(system)
    images = sampled(system, weights(system))
    assert images.shape == (3, 16, 16, 3) and len(np.unique(images.reshape(3, -1), axis=0)) == 3


@pytest.mark.parametrize("name", [pytest.param("ldm", marks=pytest.mark.slow), "pdm"])
def test_halves_of_latents_have_patch_sizes_of_their_own(name):
    config = latent_config({**MODELS[name], "patch_size": (2, 1)}, split={"boundaries": 500})
    system, parts = make_system(config), parts_of(config)
    assert [part.config.model.patch_size for part in parts] == [2, 1]
    params = weights(system)
    z_t = np.random.default_rng(1).standard_normal((2, 4, 4, 3)).astype(np.float32)
    frozen = {group: params[group] for group in system.frozen}
    for t, part in zip((500, 499), parts, strict=True):
        alone = said(make_system(part.config), {**params[part.name], **frozen}, z_t, t)
        np.testing.assert_allclose(said(system, params, z_t, t), alone, atol=1e-5)
    assert sampled(system, params).shape == (3, 16, 16, 3)


@pytest.fixture(scope="module")
def collage():
    """Patch-DM of 2 x 2 patches of 4x4 latents, f = 2."""
    model = {**tiny.PATCH_DM["model"], "patch_size": 4}
    model["network"] = {**model["network"], "channel_mult": (1,)}
    latent = {"network": {**STAGE, "channel_mult": (1, 1)}}
    return make_system(tiny.ldm_config(model=model, latent=latent, loss={"kind": "both", "position_dropout": 0.5}))


@pytest.mark.slow
def test_features_of_latents_are_collaged(collage):
    assert collage.image_shape == (8, 8, 3)
    assert learns(collage)
    params = weights(collage)
    images = sampled(collage, params)
    assert images.shape == (3, 16, 16, 3) and len(np.unique(images.reshape(3, -1), axis=0)) == 3


def test_patches_of_latents_see_across_their_borders(collage):
    """The patch up left changes with what lies beside it: within half a patch, none of which it holds itself."""
    params = weights(collage)
    z_t = np.random.default_rng(1).standard_normal((1, 8, 8, 3)).astype(np.float32)
    beside, far = z_t.copy(), z_t.copy()
    beside[:, :4, 4:6] += 1
    far[:, 6:, 6:] += 1
    here, changed, same = (said(collage, params, z, 500)[:, :4, :4] for z in (z_t, beside, far))
    assert np.abs(changed - here).max() > 1e-4
    np.testing.assert_allclose(same, here, atol=1e-6)


def test_rows_over_devices_make_the_images_of_one_device():
    """Latents of 8 rows and, after the decoder, images of 16 lie over two devices."""
    system = make_system(tiny.ldm_config())
    params = weights(system)
    mesh = make_mesh(MeshConfig(data=1, space=2), jax.devices()[:2])
    alone, together = (sampled(system, params, num=2, mesh=m) for m in (None, mesh))
    assert np.abs(alone.astype(int) - together).max() <= 1
    assert alone.std() > 5
