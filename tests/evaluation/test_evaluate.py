"""A whole evaluation with a feature network of a few lines: numbers, caching, and what is refused."""

import contextlib

import numpy as np
import pytest

from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError
from pdm_jax.evaluation.demand import ALL, Demand
from pdm_jax.evaluation.evaluate import evaluate, open_reference
from pdm_jax.evaluation.features import deal
from pdm_jax.evaluation.frechet import frechet_distance
from pdm_jax.evaluation.image_sets import ImageSet
from pdm_jax.evaluation.judges import Judges
from pdm_jax.evaluation.manifold import precision_recall
from pdm_jax.evaluation.statistics import Statistics
from pdm_jax.evaluation.statistics_files import write_statistics
from pdm_jax.evaluation.uncertainty import extrapolate
from pdm_jax.parallel import make_mesh
from tests.evaluation.conftest import mean_distance, simple_features


@contextlib.contextmanager
def silent(name, total):
    done = []

    def update(count):
        done.append(count)
        return True  # as tqdm's, when it draws

    yield update
    assert sum(done) == total, name


@pytest.fixture
def sets(folder_of, noise_images):
    return ImageSet(str(folder_of("a", noise_images(45)))), ImageSet(str(folder_of("b", noise_images(60, seed=1))))


def features(images):
    network = simple_features()
    found = [network.apply(network.params, batch["image"])["pool"] for batch in images.batches(64)]
    return np.concatenate(found)


def run(metrics, images, reference, network=None, **settings):
    how = {key: settings.pop(key) for key in ("confidence", "extrapolate", "splits", "manifold_num") if key in settings}
    judges = Judges(network or simple_features(), mean_distance() if "lpips" in metrics else None)
    return evaluate(Demand(metrics, **how), judges, lambda: images, reference, batch_size=16, bar=silent, **settings)


def test_the_numbers_are_those_of_the_metrics_themselves(sets):
    scores, facts = run(("fid", "is", "kid", "precision", "recall", "coverage"), *sets)
    ours, theirs = map(features, sets)
    expected = frechet_distance(Statistics.of(ours), Statistics.of(theirs))
    assert scores["fid_simple"] == pytest.approx(expected, rel=1e-5)
    manifold = precision_recall(ours, theirs, mesh=make_mesh(MeshConfig()))
    for name in ("precision", "recall", "coverage"):
        assert scores[f"{name}_simple"] == getattr(manifold, name)
    assert 1 <= scores["is_simple"] <= 3 and abs(scores["kid_simple"]) < 1
    assert facts["num"] == 45 and facts["num_reference"] == 60 and facts["features"] == "simple"


def test_an_interval_holds_the_value_and_groups_change_nothing(sets):
    plain, _ = run(("fid",), *sets)
    scores, _ = run(("fid",), *sets, confidence=True, extrapolate=True)
    assert scores["fid_simple"] == pytest.approx(plain["fid_simple"], rel=1e-6)
    assert scores["fid_low_simple"] < scores["fid_simple"] < scores["fid_high_simple"]
    shuffled = np.argsort(np.random.RandomState(2020).permutation(45))  # classes often go round with the index
    groups = deal([Statistics.empty(4)] * 10, features(sets[0]), shuffled % 10)
    expected = extrapolate(groups, Statistics.of(features(sets[1]))).value
    assert scores["fid_infinity_simple"] == pytest.approx(expected, rel=1e-3)


def test_pairs_and_reconstructions(folder_of, noise_images):
    images = noise_images(20)
    spoiled = np.clip(images.astype(int) + 10, 0, 255).astype(np.uint8)
    sets = ImageSet(str(folder_of("a", spoiled))), ImageSet(str(folder_of("b", images)))
    scores, _ = run(("psnr", "ssim", "psnr_y", "lpips", "rfid", "ris"), *sets, splits=2)
    assert set(scores) == {"psnr", "ssim", "psnr_y", "simple", "rfid_simple", "ris_simple", "ris_std_simple"}
    assert scores["psnr"] == pytest.approx(20 * np.log10(255 / 10), abs=0.05)
    assert scores["simple"] == pytest.approx(10, abs=0.05) and 0.5 < scores["ssim"] < 1
    assert scores["rfid_simple"] == pytest.approx(4 * 0.1**2, rel=0.01)  # four means move by 10 / 100


def test_the_reference_is_computed_once(sets, tmp_path, monkeypatch):
    first = run(("fid", "precision"), *sets, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    monkeypatch.setattr(sets[1], "batches", None)  # it is not read again
    assert run(("fid", "precision"), *sets, cache=tmp_path / "cache") == first
    with pytest.raises(TypeError):  # other weights: another reference
        run(("fid",), *sets, simple_features(scale=2), cache=tmp_path / "cache")


def test_fewer_real_images_may_serve_for_manifolds(sets):
    scores, _ = run(("precision",), *sets, manifold_num=20)
    some = features(sets[1])[np.arange(20) * 3]
    expected = precision_recall(features(sets[0]), some, mesh=make_mesh(MeshConfig()))
    assert scores["precision_simple"] == expected.precision


def test_statistics_may_stand_for_the_images(sets, tmp_path):
    network, path = simple_features(), tmp_path / "stats.npz"
    write_statistics(path, {"pool": Statistics.of(features(sets[1]))}, network.identity)
    real, statistics = open_reference(str(path))
    assert real is None
    scores, facts = run(("fid",), sets[0], real, statistics=statistics)
    assert scores["fid_simple"] == pytest.approx(run(("fid",), *sets)[0]["fid_simple"], rel=1e-4)
    assert facts["num_reference"] == 60
    with pytest.raises(UserError, match="but this evaluation has features simple, weights"):
        run(("fid",), sets[0], real, simple_features(scale=2), statistics=statistics)
    with pytest.raises(UserError, match="need real images; give --reference with images"):
        run(("precision",), sets[0], real, statistics=statistics)


def test_foreign_statistics_are_inceptions(sets, tmp_path):
    path = tmp_path / "foreign.npz"
    of = Statistics.of(features(sets[1]))
    np.savez(path, mu=of.mean, sigma=of.covariance, arr_0=np.zeros((3, 12, 12, 3), np.uint8))
    real, statistics = open_reference(str(path))
    assert len(real) == 3 and statistics == str(path)  # as in ADM's reference batches
    with pytest.raises(UserError, match="holds statistics of Inception, which cannot be compared with simple"):
        run(("fid",), sets[0], real, statistics=statistics)
    scores, facts = run(("fid",), sets[0], real, simple_features("inception"), statistics=statistics)
    assert scores["fid"] == pytest.approx(run(("fid",), *sets)[0]["fid_simple"], rel=1e-4)
    assert facts["reference_made"] == "unknown"


@pytest.mark.parametrize(
    "metrics, num, settings, message",
    [
        (("precision",), 3, {}, "precision needs at least 4 images, there are 3"),
        (("fid",), 1, {}, "fid needs at least 2 images, there are 1"),
        (("fid",), 19, {"confidence": True}, "fid needs at least 20 images, there are 19"),
        (("is",), 9, {}, "is needs at least 10 images, there are 9"),
        (("sfid",), 9, {}, "sfid needs spatial features, which simple has not"),
        (("psnr",), 9, {}, r"has 9 images and .* has 60"),
        (("rfid",), 9, {}, r"has 9 images and .* has 60"),
    ],
)
def test_too_few_images_or_the_wrong_ones(sets, folder_of, noise_images, metrics, num, settings, message):
    few = ImageSet(str(folder_of("few", noise_images(num))))
    with pytest.raises(UserError, match=message):
        run(metrics, few, sets[1], **settings)


def test_metrics_that_do_not_exist():
    with pytest.raises(UserError, match="there is no metric 'fdi'; the metrics are " + ", ".join(ALL)):
        Demand(("fid", "fdi"))


def test_images_too_small(sets, folder_of, noise_images):
    tiny = ImageSet(str(folder_of("tiny", noise_images(4)[:, :8])))
    with pytest.raises(UserError, match="SSIM needs images of at least 11x11 pixels, these are 12x8"):
        run(("ssim",), tiny, tiny)
