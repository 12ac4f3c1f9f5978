"""PSNR and SSIM in float32 against scikit-image in float64, at the ends of their ranges, and what is refused."""

import jax
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation.pairs import psnr, ssim


def images(seed, *shape):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def skimage_ssim(a, b):
    from skimage.metrics import structural_similarity

    settings = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 255, "channel_axis": -1}
    return [structural_similarity(*pair, **settings) for pair in zip(b, a, strict=True)]


@pytest.mark.parametrize("space", [{}, {"luma": True}])
def test_identical_images(space):
    x = images(0, 2, 13, 12, 3)
    assert np.all(np.isposinf(psnr(x, x, **space)))
    np.testing.assert_allclose(ssim(x, x, **space), 1, rtol=0, atol=1e-6)


def test_psnr_is_the_formula():
    x, y = np.zeros((1, 4, 4, 1), np.uint8), np.full((1, 4, 4, 1), 255, np.uint8)
    assert psnr(x, y) == pytest.approx([0], abs=1e-5)
    assert psnr(x, y // 255) == pytest.approx([10 * np.log10(255**2)], rel=1e-6)


def test_luma_of_black_and_white_is_16_and_235():
    x, y = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 255, np.uint8)
    assert psnr(x, y, luma=True) == pytest.approx([20 * np.log10(255 / 219)], rel=1e-5)


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("height", [11, 64])
def test_float32_is_enough_where_images_are_flat(level, height):
    """The variance of a flat area is a small difference of large numbers."""
    reference = np.full((2, height, 31, 3), level, np.uint8)
    x = np.where(images(1, *reference.shape) > 250, np.abs(reference.astype(int) - 1), reference).astype(np.uint8)
    x[1] = images(2, *x[1].shape)
    np.testing.assert_allclose(ssim(x, reference), skimage_ssim(x, reference), rtol=0, atol=1e-5)


def test_sums_over_large_images_keep_their_digits():
    x, y = images(3, 1, 512, 700, 3), images(4, 1, 512, 700, 3)
    expected = 10 * np.log10(255**2 / np.mean((x.astype(np.float64) - y) ** 2))
    assert psnr(x, y) == pytest.approx([expected], abs=1e-5)


def test_images_of_a_device_do_as_well():
    x, y = images(5, 1, 12, 12, 1), images(6, 1, 12, 12, 1)
    np.testing.assert_array_equal(ssim(*map(jax.numpy.asarray, (x, y))), ssim(x, y))


@pytest.mark.parametrize(
    "metric, x, y, luma, problem",
    [
        (psnr, np.zeros((1, 4, 4, 3), np.float32), images(0, 1, 4, 4, 3), False, "got float32"),
        (psnr, images(0, 4, 4, 3), images(0, 4, 4, 3), False, r"got uint8 \(4, 4, 3\), expected"),
        (psnr, images(0, 1, 4, 4, 3), images(0, 1, 4, 5, 3), False, r"references \(1, 4, 5, 3\)"),
        (psnr, images(0, 1, 4, 4, 1), images(0, 1, 4, 4, 1), True, "luma is of RGB images, got 1 channels"),
        (ssim, images(0, 1, 10, 20, 3), images(0, 1, 10, 20, 3), False, "window of 11 x 11 pixels, .* 10 x 20"),
    ],
)
def test_bad_images_are_refused(metric, x, y, luma, problem):
    with pytest.raises(UserError, match=problem):
        metric(x, y, luma=luma)
