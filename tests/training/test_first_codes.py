"""What a table of codes holds before training: CLIP's features or thumbnails of each image, in its own row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation.clip_input import open_image_settings, prepare
from pdm_jax.interop.clip import open_clip
from pdm_jax.training.codes import with_first_codes
from tests import tiny
from tests.evaluation.clip_folder import write


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clip"))


def table(init, num=12, **codes):
    config = tiny.patch_config(codes={"init": init, "num": num} | codes)
    params = {"network": {}, "codes": {"table": jnp.full((num, config.codes.dim), 7.0)}}
    return np.asarray(with_first_codes(config, tiny.patch_dataset(config), params)["codes"]["table"])


def test_rows_are_clips_features_of_their_images(clip):
    config = tiny.patch_config()
    images = np.concatenate([batch["image"] for batch in tiny.patch_dataset(config).once()])
    definition, params = open_clip(clip)
    pixels = prepare(images, open_image_settings(clip))
    wanted = jax.jit(lambda params, x: definition.bind(params).image(x).embedding)(params, pixels)
    got = table(f"clip:{clip}")
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    assert not np.allclose(np.linalg.norm(got, axis=1), 1)  # raw, not of unit length


def test_random_codes_stay_as_they_are():
    np.testing.assert_array_equal(table("random"), 7)


def test_thumbnails_differ_from_image_to_image():
    codes = table("thumbnail")
    assert len(np.unique(codes, axis=0)) == 12 and np.isfinite(codes).all()


@pytest.mark.parametrize("init", ["clip", "clip:", "thumbnail:x", "zeros"])
def test_ways_that_do_not_exist_are_named(init):
    with pytest.raises(UserError, match=r"config\.codes\.init is .* expected 'random', 'thumbnail' or 'clip:FOLDER'"):
        table(init)


def test_features_of_another_size_are_refused(clip):
    with pytest.raises(UserError, match=r"has 16 features and config.codes.dim is 8; set it so"):
        table(f"clip:{clip}", dim=8)
