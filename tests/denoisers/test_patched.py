"""Patching around a denoiser: exact, for everything that lies over the image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.denoisers.patched import patched
from pdm_jax.errors import UserError
from pdm_jax.ops.patching import patchify
from pdm_jax.types import Cond, Prediction, Step


def reporting(seen):
    """A denoiser that remembers what it was given and answers with it."""

    def denoise(z, step, cond):
        seen.update(z=z, step=step, cond=cond)
        return Prediction(z * 2, z + 1, None)

    return denoise


def images(seed, channels=3):
    return jax.random.normal(jax.random.key(seed), (2, 8, 12, channels))


def test_a_pointwise_denoiser_is_unchanged_by_patching():
    z, seen = images(0), {}
    prediction = patched(reporting(seen), 4)(z, Step(jnp.int32(3)), Cond())
    assert seen["z"].shape == (2, 2, 3, 48)
    np.testing.assert_array_equal(prediction.x0, z * 2)
    np.testing.assert_array_equal(prediction.eps, z + 1)
    assert prediction.variance is None


def test_conditions_over_the_image_and_the_previous_prediction_are_patched_too():
    seen, previous = {}, Prediction(images(1), images(2))
    cond = Cond(label=jnp.arange(2), concat=images(3, channels=2), mask=images(4, channels=1))
    patched(reporting(seen), 2)(images(0), Step(jnp.int32(0), previous=previous), cond)
    np.testing.assert_array_equal(seen["step"].previous.eps, patchify(previous.eps, 2))
    np.testing.assert_array_equal(seen["cond"].concat, patchify(cond.concat, 2))
    assert seen["cond"].mask.shape == (2, 4, 6, 4)
    np.testing.assert_array_equal(seen["cond"].label, cond.label)


def test_patch_size_one_is_the_denoiser_itself():
    denoiser = reporting({})
    assert patched(denoiser, 1) is denoiser


def test_patches_must_tile_the_image():
    with pytest.raises(UserError, match="8x12 cannot be cut into patches of 5x5"):
        patched(reporting({}), 5)(images(0), Step(jnp.int32(0)), Cond())
