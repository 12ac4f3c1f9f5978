"""What decides the numbers of the latent diffusion analyses, and all their parts at their smallest."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from pdm_jax.evaluation import local_features
from pdm_jax.networks import count_params
from pdm_jax.systems import make_system

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
OURS = ("ldm", "paper", "paper_ldm", "patch_dm", "report")


@pytest.fixture
def benchmarks(monkeypatch):
    """Makes the benchmarks importable, as they are when one of them is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]


def test_networks_of_all_factors_have_about_as_many_parameters(benchmarks):
    from ldm.scales import CHANNELS, FACTORS, SCALES, diffusion_config

    systems = [make_system(diffusion_config(SCALES["small"], factor)) for factor in FACTORS]
    sizes = [count_params(system.shapes) for system in systems]
    assert max(sizes) < 1.11 * min(sizes)
    side = SCALES["small"].image_size
    assert [x.image_shape for x in systems] == [(side // f, side // f, CHANNELS[f]) for f in FACTORS]


def test_networks_of_the_paper_scale_are_those_of_table_14(benchmarks):
    from ldm.scales import FACTORS, SCALES, diffusion_config

    sizes = [count_params(make_system(diffusion_config(SCALES["paper"], f)).shapes) / 1e6 for f in FACTORS]
    np.testing.assert_allclose(sizes, [270.46, 264.51, 274.06, 257.73], atol=0.005)


def test_the_nearest_come_first(benchmarks):
    from ldm.neighbours import nearest

    known = np.array([[0.0, 0], [3, 4], [0, 1]])
    indices, distances = nearest(np.array([[0.0, 0], [3, 3]]), known, 2)
    np.testing.assert_array_equal(indices, [[0, 2], [1, 2]])
    np.testing.assert_allclose(distances, [[0, 1], [1, np.sqrt(13)]])


def test_bits_beyond_a_distortion_are_those_that_follow_it(benchmarks):
    from ldm.rates import bits_beyond

    rate, distortion = np.array([1.0, 2, 6, 8]), np.array([50.0, 20, 1, 0])
    assert bits_beyond(rate, distortion, 20) == 0.75
    assert bits_beyond(rate, distortion, 100) == 1 - 1 / 8
    assert bits_beyond(rate, distortion, 0.5) == 0


def test_a_rate_is_what_x0_hat_was_told(benchmarks):
    from ldm.rates import curve

    bound = SimpleNamespace(prior=np.array([0.5, 0.5]), terms=np.array([[1.0, 2], [3, 4]]), x0_mse=np.full((2, 2), 4.0))
    rate, distortion = curve(bound)
    np.testing.assert_allclose(rate, [0.5, 2.5, 5.5])  # the first x0_hat knows of no term yet
    np.testing.assert_allclose(distortion, [255, 255, 0])


def test_larger_variance_keeps_the_signal_longer(benchmarks):
    from ldm.rescaling import signal_until

    snr = np.array([100.0, 4, 1, 0.1])
    assert [signal_until(variance, snr) for variance in (0.5, 2, 1e-3, 1e3)] == [2, 3, 0, 4]


def test_quarters_are_cut_in_reading_order(benchmarks):
    from ldm.rescaling import quarters

    image = np.arange(16).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(quarters(image)[1, ..., 0], [[2, 3], [6, 7]])
    np.testing.assert_array_equal(quarters(image)[2, ..., 0], [[8, 9], [12, 13]])


def test_holes_get_the_mean_colour_of_the_rest(benchmarks):
    from ldm.inpainting import mean_filled

    image = np.array([10, 20, 90, 200], np.uint8).reshape(1, 2, 2, 1)
    mask = np.array([0, 0, 0, 1], np.uint8).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(mean_filled(image, mask).ravel(), [10, 20, 90, 40])


def test_too_few_images_are_one_line(benchmarks, tmp_path, capsys):
    from paper_ldm import main
    from PIL import Image

    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "one.png")
    assert main([f"--data=folder:{tmp_path}", "--scale=smallest", f"--out={tmp_path / 'out'}", "--part=quality"]) == 2
    assert "has 1 images; this scale needs at least 32" in capsys.readouterr().err


@pytest.fixture
def run(benchmarks, tmp_path, monkeypatch):
    """Runs parts with features of untrained convolutions; returns their rows."""
    settings = local_features.LocalSettings(16, 3, 0)
    definition = local_features._define(settings)
    network = local_features._network(settings, jax.jit(definition.init)(jax.random.key(0)))
    monkeypatch.setattr(local_features, "train_local", lambda *arguments: network)

    def run(*parts):
        from paper_ldm import main

        with jax.numpy_dtype_promotion("standard"):  # optax promotes
            assert main(["--scale=smallest", f"--out={tmp_path}", "--part", *parts]) == 0
        found = {part: json.loads((tmp_path / f"{part}.json").read_text())["rows"] for part in parts}
        numbers = [x for rows in found.values() for row in rows for x in row.values() if isinstance(x, float)]
        assert np.isfinite(numbers).all()
        return found

    return run


@pytest.mark.slow
def test_speeds_are_compared_with_the_first_model(run):
    found = run("speed")["speed"]
    assert [row["model"] for row in found] == ["LDM-1", "LDM-2", "LDM-4", "LDM-8"]
    assert found[0]["train speed-up"]["median"] == 1


@pytest.mark.slow
def test_latents_compute_less(run):
    found = {row["model"]: row for row in run("flops")["flops"]}
    assert len(found) == 4 + 4  # LDM-4 is in both
    assert found["LDM-1"]["train less"] == found["LDM-1"]["sample less"] == 1
    halves, whole = found["LDM-4 in halves, P = 2 and 1"], found["LDM-4"]
    assert whole["train GFLOP"] < halves["train GFLOP"] < 2 * whole["train GFLOP"]
    assert found["LDM-4, P = 2"]["sample GFLOP"] < whole["sample GFLOP"]


@pytest.mark.slow
def test_all_that_composes_with_latents_is_measured(run):
    found = run("composition", "decoding")
    assert len(found["composition"]) == 5
    assert [row["devices"] for row in found["decoding"]] == [1, 2, 4, 8]
    assert found["decoding"][-1]["MiB a device"] < 0.5 * found["decoding"][0]["MiB a device"]
    assert max(row["off"] for row in found["decoding"]) <= 1


@pytest.mark.slow
def test_all_that_is_trained_is_measured_and_drawn(run, tmp_path):
    found = run("quality", "rates", "neighbours", "rescaling", "inpainting")
    assert len(found["quality"]) == 4 * (1 + 1 + 2)  # of each model: reconstructions, by training, by sampling steps
    assert all(0 <= row["bits beyond"] <= 1 for row in found["rates"][1:])
    assert found["rescaling"][0]["scale"] == 1 and found["rescaling"][1]["variance"] == pytest.approx(1, abs=0.5)
    shares = {row["column"]: row["masked"] for row in found["inpainting"]}
    assert 0.4 <= shares["40-50 % masked"] <= 0.5
    pictures = "quality_samples quality_steps quality_speed rates neighbours rescaling inpainting"
    assert {path.stem for path in tmp_path.glob("*.png")} == set(pictures.split())
