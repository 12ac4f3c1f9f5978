"""Degraded images: sizes, repeatability, resizing against plain definitions, and what is drawn how often."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pdm_jax.data.degradations import KINDS, degrade, kernels, operators
from pdm_jax.data.degradations.bsr import FULL, LIGHT, draw_steps
from pdm_jax.data.degradations.resizing import OPENCV_KINDS, resize_matlab, resize_opencv
from pdm_jax.errors import UserError
from tests.parity_kinds import open_case
from tests.parity_kinds._bsr_replay import replay

REFERENCE = Path(__file__).parents[3] / "shared/reference/ldm_bsr_degradation"


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Smooth colours, (48, 32, 3) uint8."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((32, 48), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_kind_makes_a_small_copy_that_hangs_on_the_seed_alone(photo, kind, factor, channels):
    image = photo[..., :channels]
    lows = [degrade(image, factor, kind, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert lows[0].dtype == np.uint8 and lows[0].shape == (48 // factor, 32 // factor, channels)
    np.testing.assert_array_equal(lows[0], lows[1])
    assert np.array_equal(lows[0], lows[2]) == (kind == "bicubic")


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_lies_where_the_image_does(photo, kind):
    """On average over degradations it is a smaller image of the same, neither moved nor darkened."""
    low = np.mean([degrade(photo, 2, kind, np.random.default_rng(seed)) for seed in range(64)], axis=0)
    means = photo.reshape(24, 2, 16, 2, 3).mean((1, 3))
    assert abs((low - means).mean()) < 1

    def distance(rows, columns):
        moved = np.roll(low, (rows, columns), (0, 1))
        return np.abs(moved - means)[2:-2, 2:-2].mean()

    moves = {(rows, columns): distance(rows, columns) for rows in (-1, 0, 1) for columns in (-1, 0, 1)}
    assert min(moves, key=moves.get) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "factor", "message"), [("blurry", 4, "choose bicubic, bsr, bsr_full"), ("bsr", 5, "multiples of 5")]
)
def test_mistakes_are_refused(photo, kind, factor, message):
    with pytest.raises(UserError, match=message):
        degrade(photo, factor, kind, np.random.default_rng(0))


@pytest.mark.parametrize("kind", OPENCV_KINDS)
@pytest.mark.parametrize("size", [(48, 32), (24, 16), (17, 9), (60, 70), (10, 40)])
def test_resizing_keeps_what_is_even_and_where_things_are(kind, size):
    flat = np.full((48, 32, 3), 0.3, np.float32)
    np.testing.assert_allclose(resize_opencv(flat, size, kind), np.full((*size, 3), 0.3), atol=1e-6)
    ramp = np.broadcast_to(np.arange(32.0)[:, None], (48, 32, 1))
    line = resize_opencv(ramp, size, kind)[0, :, 0]
    middles = (np.arange(size[1]) + 0.5) * 32 / size[1] - 0.5
    np.testing.assert_allclose(line[4:-4], middles[4:-4], atol={"linear": 1e-5, "cubic": 0.1, "area": 0.51}[kind])


def test_area_is_the_mean_of_boxes_and_linear_that_of_two():
    image = np.random.default_rng(0).random((12, 8, 2), np.float32)
    means = image.reshape(4, 3, 4, 2, 2).mean((1, 3))
    np.testing.assert_allclose(resize_opencv(image, (4, 4), "area"), means, atol=1e-6)
    thirds = resize_opencv(np.array([[[0.0], [3.0], [9.0]]]), (1, 2), "area")[0, :, 0]
    np.testing.assert_allclose(thirds, [(0 + 1.5) / 1.5, (1.5 + 9) / 1.5])
    image = np.array([[[0.0], [1.0], [5.0], [7.0]]])
    np.testing.assert_allclose(resize_opencv(image, (1, 1), "linear"), [[[3.0]]])
    np.testing.assert_allclose(resize_opencv(image, (1, 8), "linear")[0, :, 0], [0, 0.25, 0.75, 2, 4, 5.5, 6.5, 7])


def test_cubic_kernels_differ_by_program():
    """A lone bright pixel, halved: OpenCV takes its neighbours' weights at half a pixel, Matlab a wider kernel."""
    image = np.zeros((1, 16, 1))
    image[0, 8] = 1
    np.testing.assert_allclose(resize_opencv(image, (1, 8), "cubic")[0, 3:6, 0], [-0.09375, 0.59375, 0], atol=1e-6)
    np.testing.assert_allclose(resize_matlab(image, 0.5).sum(), 0.5, atol=1e-6)
    assert resize_matlab(image, 0.5)[0, 4, 0] == pytest.approx((1.5 * 0.25**3 - 2.5 * 0.25**2 + 1) / 2, rel=2e-2)


def test_kernels_sum_to_one_and_have_the_wanted_variance():
    x = np.arange(41) - 20.0
    for kernel in (kernels.gaussian(41, 2.0), kernels.anisotropic(41, 0.0, 4.0, 1.0)):
        assert kernel.sum() == pytest.approx(1)
        assert kernel.sum(0) @ x**2 == pytest.approx(4, rel=1e-4)
    assert kernel.sum(1) @ x**2 == pytest.approx(1, rel=1e-4)
    turned = kernels.anisotropic(41, np.pi / 2, 4.0, 1.0)
    np.testing.assert_allclose(turned, kernel.T, atol=1e-12)


def test_the_narrowest_kernels_of_even_size_sum_to_one():
    for kernel in (kernels.gaussian(6, 1e-3), kernels.anisotropic(14, 1.0, 1e-9, 1e-9)):
        assert kernel.sum() == pytest.approx(1)


def test_shifting_and_striding_samples_the_middles_of_blocks():
    ramp = np.broadcast_to(np.arange(64.0, dtype=np.float32)[:, None] / 64, (64, 64, 1))
    kernel = kernels.shifted(kernels.gaussian(25, 1.0), 4)
    low = operators.blur_and_stride(ramp, kernel / kernel.sum(), 4)
    np.testing.assert_allclose(low[0, 4:-4, 0] * 64, np.arange(1.5, 64, 4)[4:-4], atol=1e-4)


def test_jpeg_spoils_more_at_lower_quality(photo):
    image = operators.to_float(photo)
    errors = [np.abs(operators.jpeg(image, quality) - image).mean() for quality in (95, 60, 20)]
    assert 0 < errors[0] < errors[1] < errors[2] < 0.1
    np.testing.assert_array_equal(operators.to_uint8(image), photo)


def _drawn(settings, factor=4, count=1500):
    """The steps of many degradations, and how often each operator occurs a degradation."""
    rng = np.random.default_rng(7)
    plans = [draw_steps((32, 32, 3), factor, settings, rng) for _ in range(count)]
    steps = [step for plan in plans for step in plan]
    often = Counter(getattr(step, "func", step).__name__ for step in steps)
    return plans, steps, {name: number / count for name, number in often.items()}


@pytest.mark.parametrize("settings", [LIGHT, FULL])
def test_what_is_drawn_how_often(settings):
    _, steps, often = _drawn(settings)
    assert often["blur"] == settings.num_blurs and often["add"] == 1
    assert often["jpeg"] == pytest.approx(1.9, abs=0.04)
    assert often["halve"] == pytest.approx(0.125, abs=0.03)
    assert often["resize"] == pytest.approx(1 + 0.125 + settings.resize_chance, abs=0.04)
    assert often["blur_and_stride"] == pytest.approx(1 - settings.resize_chance, abs=0.04)
    kinds = Counter(step.keywords["kind"] for step in steps if getattr(step, "func", None) is operators.resize)
    np.testing.assert_allclose([kinds[kind] / kinds.total() for kind in OPENCV_KINDS], 1 / 3, atol=0.04)


@pytest.mark.parametrize("settings", [LIGHT, FULL])
def test_ranges_are_used_to_their_ends(settings):
    _, steps, _ = _drawn(settings)
    args = [(step.func, step.keywords) for step in steps if step is not operators.halve]
    qualities = [kw["quality"] for func, kw in args if func is operators.jpeg]
    assert (min(qualities), max(qualities)) == settings.jpeg_qualities
    sizes = {len(kw["kernel"]) for func, kw in args if func is operators.blur}
    assert sizes == {*settings.anisotropic_sizes, *settings.round_sizes}
    noises = [kw["noise"] for func, kw in args if func is operators.add]
    grey = [noise for noise in noises if noise.shape[-1] == 1]
    assert len(grey) / len(noises) == pytest.approx(0.4, abs=0.04)
    levels = [noise.std() * 255 for noise in grey if noise.size >= 32 * 32]
    low, high = settings.noise_levels
    assert min(levels) == pytest.approx(low, rel=0.1) and max(levels) == pytest.approx(high, rel=0.1)


def test_order_is_random_but_for_the_final_size():
    plans, *_ = _drawn(LIGHT, factor=2)
    orders = [[step.func.__name__ for step in plan[:-1]] for plan in plans]
    first = Counter(order[0] for order in orders)
    assert {"blur", "resize", "add", "jpeg", "blur_and_stride"} == set(first)
    for plan in plans:
        shrinking = [step for step in plan if step.func in (operators.resize, operators.blur_and_stride)]
        assert len(shrinking) == 2 and shrinking[-1].keywords["size"] == (16, 16)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the full reference is not beside the checkout")
@pytest.mark.parametrize(("name", "settings"), [("light", LIGHT), ("full", FULL)])
def test_the_program_comes_out_to_the_bit_with_its_random_numbers(name, settings):
    arrays = np.load(REFERENCE / "io.npz")
    for seed in (720, 721, 722):
        got = replay(arrays["image_uint8_hwc"], 4, settings, seed)
        np.testing.assert_array_equal(got, arrays[f"{name}_seed{seed}_lr_uint8"])


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the full reference is not beside the checkout")
def test_parity_refuses_a_degradation_that_is_another(tmp_path):
    (tmp_path / "meta.json").write_text((REFERENCE / "meta.json").read_text())
    arrays = dict(np.load(REFERENCE / "io.npz"))
    np.savez(tmp_path / "io.npz", **(arrays | {"full_seed720_lr_uint8": arrays["full_seed721_lr_uint8"]}))
    case = open_case(tmp_path, kind="ldm_bsr_degradation")
    with pytest.raises(UserError, match=r"full_seed720_lr_uint8 is .* grey levels away"):
        case.kind.run(case)
