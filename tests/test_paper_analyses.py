"""The closed forms behind the paper's figures, and all parts of the benchmark at their smallest."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from pdm_jax.config import DiffusionConfig
from pdm_jax.diffusion import make_process

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    """Makes the benchmarks importable, as they are when one of them is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("paper", "paper_pdm", "report")]:
        del sys.modules[name]


@pytest.fixture
def optimal(benchmarks):
    from paper import optimal

    return optimal


@pytest.fixture(scope="module")
def process():
    return make_process(DiffusionConfig())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (6, 4, 4, 3))


def z_of(images, t, process):
    return process.signal[t] * images + process.sigma[t] * np.random.default_rng(1).standard_normal(images.shape)


@pytest.mark.parametrize("t", [100, 500, 900])
def test_the_posterior_is_bayes_rule(optimal, process, images, t):
    z_t = z_of(images, t, process)[:2]
    distances = np.square(z_t[:, None] - process.signal[t] * images[None]).sum(axis=(2, 3, 4))  # (2, 6)
    likelihood = np.exp(-distances / (2 * process.sigma[t] ** 2))
    expected = likelihood / likelihood.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(optimal.posterior(z_t, t, images, process), expected, rtol=1e-9)


def test_two_pixels_have_the_known_tanh(optimal, process):
    """For x0 = -1 or 1 in one pixel, E[x0 | z] = tanh(signal z / sigma²)."""
    t, z_t = 300, np.linspace(-2, 2, 5).reshape(5, 1, 1, 1)
    images = np.array([-1.0, 1.0]).reshape(2, 1, 1, 1)
    star = optimal.optimal_x0(optimal.posterior(z_t, t, images, process), images)
    np.testing.assert_allclose(star, np.tanh(process.signal[t] * z_t / process.sigma[t] ** 2), rtol=1e-9)


def test_the_optimum_goes_from_the_image_to_the_mean(optimal, process, images):
    first = optimal.optimal_x0(optimal.posterior(z_of(images, 0, process), 0, images, process), images)
    last = optimal.optimal_x0(optimal.posterior(z_of(images, 999, process), 999, images, process), images)
    np.testing.assert_allclose(first, images, atol=1e-12)
    np.testing.assert_allclose(last, np.broadcast_to(images.mean(axis=0), images.shape), atol=0.1)


def test_the_optimum_has_the_least_error(optimal, process, images):
    """Over draws of (x0, z_t) no other shrinkage of x* comes nearer to x0 (appendix A)."""
    t, x0 = 800, np.repeat(images, 400, axis=0)
    star = optimal.optimal_x0(optimal.posterior(z_of(x0, t, process), t, images, process), images)
    error = {scale: np.square(scale * star - x0).mean() for scale in (0.8, 1.0, 1.2)}
    assert min(error, key=error.get) == 1.0


def test_effective_number_counts_equal_weights(optimal):
    weights = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4])
    np.testing.assert_allclose(optimal.effective_number(weights), [1, 2, 4])


def test_fine_detail_is_the_power_of_short_waves(optimal):
    x = np.arange(32)
    long, short = (
        np.broadcast_to(np.sin(2 * np.pi * x / wave)[None, :, None, None], (2, 32, 32, 1)) for wave in (16, 4)
    )
    assert optimal.fine_detail(np.ones((1, 32, 32, 1))) == 0
    np.testing.assert_allclose(optimal.fine_detail(long), 0, atol=1e-20)
    np.testing.assert_allclose(optimal.fine_detail(short + 3 * long), 0.5)  # the mean square of a sine


def test_too_few_images_are_one_line(benchmarks, tmp_path, capsys):
    from paper_pdm import main
    from PIL import Image

    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "one.png")
    assert main([f"--data=folder:{tmp_path}", "--scale=smoke", f"--out={tmp_path / 'out'}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_all_parts_run(benchmarks, tmp_path):
    from paper_pdm import PARTS, main

    with jax.numpy_dtype_promotion("standard"):  # optax promotes
        assert main(["--data=builtin:digits", "--scale=smoke", f"--out={tmp_path}"]) == 0
    results = {name: json.loads((tmp_path / f"{name}.json").read_text())["rows"] for name in PARTS}
    numbers = [value for rows in results.values() for row in rows for value in row.values() if isinstance(value, float)]
    assert np.isfinite(numbers).all()
    assert results["blur"][0]["images in x*"] == pytest.approx(1)
    assert results["memory"][-1]["times P = 4"] > 2
    pictures = "distortion curves blur blur_images reconstructions estimates table table_samples"
    assert {path.stem for path in tmp_path.glob("*.png")} == set(pictures.split())
