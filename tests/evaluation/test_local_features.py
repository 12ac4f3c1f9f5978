"""Features trained on the data themselves: what comes out, that it repeats, files, and truths that must hold."""

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from pdm_jax.config import DataConfig
from pdm_jax.data import ArrayDataset, make_dataset
from pdm_jax.errors import UserError
from pdm_jax.evaluation import local_training
from pdm_jax.evaluation.frechet import frechet_distance
from pdm_jax.evaluation.local_features import LocalNetwork, load, local_perceptual, recipe, save, train_local
from pdm_jax.evaluation.statistics import Statistics
from pdm_jax.interop import safetensors_files


@pytest.fixture(scope="module", autouse=True)
def standard_promotion():
    """Optax's Adam promotes types."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def dataset(labelled: bool, batch_size: int = 5, size: int = 8) -> ArrayDataset:
    rng = np.random.default_rng(0)
    labels = np.arange(12) % 3 if labelled else None
    return ArrayDataset(rng.integers(0, 256, (12, size, size, 3), np.uint8), labels, batch_size, seed=0)


@pytest.fixture(scope="module", params=[True, False], ids=["labelled", "unlabelled"])
def trained(request):
    """A data set, and a network that has seen a little of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(local_training.RECIPE, "steps", 2)
        patch.setitem(local_training.RECIPE, "views", 8)
        data = dataset(request.param)
        yield data, train_local(data)


def images(data: ArrayDataset) -> np.ndarray:
    return np.concatenate([batch["image"] for batch in data.once()])


def test_features_are_as_announced(trained):
    data, network = trained
    out = network.apply(network.params, images(data))
    assert {name: x.shape for name, x in out.items()} == {name: (12, d) for name, d in network.outputs.items()}
    assert next(iter(network.outputs)) == "pool" and 64 <= network.outputs["pool"] <= 256
    assert network.outputs.get("logits") == (data.num_classes or None)
    assert all(x.dtype == jnp.float32 and np.isfinite(x).all() for x in out.values())
    assert network.identity["features"] == "local"


def test_training_repeats_and_depends_on_the_seed(trained):
    data, network = trained
    assert train_local(data).identity == network.identity
    assert train_local(data, seed=1).identity != network.identity


def test_the_batch_size_of_the_data_set_does_not_matter(trained):
    data, network = trained
    assert train_local(dataset(data.num_classes > 0, batch_size=3)).identity == network.identity


def test_a_saved_network_is_the_same(trained, tmp_path):
    data, network = trained
    save(tmp_path / "local.safetensors", network)
    found = load(tmp_path / "local.safetensors")
    assert (found.identity, found.settings, found.outputs) == (network.identity, network.settings, network.outputs)
    pool = network.apply(network.params, images(data))["pool"]
    np.testing.assert_array_equal(found.apply(found.params, images(data))["pool"], pool)


def test_files_that_are_no_such_network(trained, tmp_path, monkeypatch):
    path = tmp_path / "local.safetensors"
    save(path, trained[1])
    monkeypatch.setitem(local_training.RECIPE, "version", 0)
    with pytest.raises(UserError, match="another version"):
        load(path)
    safetensors_files.write(path, {"x": np.zeros(1)}, {})
    with pytest.raises(UserError, match="holds no local feature network"):
        load(path)
    path.unlink()
    with pytest.raises(UserError, match="does not exist"):
        load(path)


def test_a_recipe_names_what_decides_the_result():
    assert {"version", "steps", "learning_rate", "least_scale", "widths"} <= set(recipe())


def test_distances_between_images(trained):
    data, network = trained
    x = images(data)[:3]
    near = np.clip(x.astype(int) + 8, 0, 255).astype(np.uint8)
    judge = local_perceptual(network)
    distance = jax.jit(judge.apply)
    assert judge.name == "perceptual_local"
    np.testing.assert_allclose(distance(judge.params, x, x), 0, atol=1e-6)
    to_near, to_far = distance(judge.params, x, near), distance(judge.params, x, x[::-1].swapaxes(1, 2))
    assert to_near.shape == (3,)
    assert np.all((to_near > 0) & (to_near < to_far))


def test_progress_wraps_the_steps(monkeypatch):
    monkeypatch.setitem(local_training.RECIPE, "steps", 2)
    monkeypatch.setitem(local_training.RECIPE, "views", 8)
    seen = []
    train_local(dataset(True), progress=lambda steps: (seen.append(i) or i for i in steps))
    assert seen == [0, 1]


def test_images_that_are_too_small():
    with pytest.raises(UserError, match="images of 6x6; local features need at least 8x8"):
        train_local(dataset(False, size=6))


# Trains as a user does: one device, all optimisations, which takes a quarter of the time of those of the tests.
TRAIN = """
import json, sys
from pathlib import Path
from pdm_jax.config import DataConfig
from pdm_jax.data import make_dataset
from pdm_jax.evaluation.local_features import save, train_local

save(Path(sys.argv[1]), train_local(make_dataset(DataConfig(**json.loads(sys.argv[2])), seed=0)))
"""


def trained_elsewhere(config: DataConfig, path: Path) -> LocalNetwork:
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    settings = json.dumps(dataclasses.asdict(config))
    subprocess.run([sys.executable, "-c", TRAIN, str(path), settings], env=environment, check=True)
    return load(path)


class Truths:
    """Fréchet distances of a network's pool features to those of its own images."""

    def __init__(self, config: DataConfig, folder: Path):
        self.data = make_dataset(config, seed=0)
        batches = list(self.data.once())
        self.images = np.concatenate([batch["image"] for batch in batches])
        self.labels = np.concatenate([batch["label"] for batch in batches]) if self.data.num_classes else None
        self.network = trained_elsewhere(config, folder / "local.safetensors")
        self._apply = jax.jit(self.network.apply)
        self._reference = Statistics.of(self.features(self.images))

    def features(self, images: np.ndarray, output: str = "pool") -> np.ndarray:
        blocks = [images[i : i + 256] for i in range(0, len(images), 256)]
        return np.concatenate([self._apply(self.network.params, block)[output] for block in blocks])

    def distance(self, images: np.ndarray) -> float:
        return frechet_distance(Statistics.of(self.features(images)), self._reference)

    def halves(self) -> float:
        halves = [Statistics.of(self.features(self.images[i::2])) for i in range(2)]
        return frechet_distance(*halves)


def blurred(images: np.ndarray, deviation: float) -> np.ndarray:
    return (
        scipy.ndimage.gaussian_filter(images.astype(np.float32), (0, deviation, deviation, 0)).round().astype(np.uint8)
    )


def noisy(images: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, deviation, images.shape)
    return np.clip(images + noise, 0, 255).round().astype(np.uint8)


def compressed(images: np.ndarray, quality: int) -> np.ndarray:
    def through_jpeg(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return np.stack([through_jpeg(image) for image in images.squeeze()]).reshape(images.shape)


def swapped(images: np.ndarray, count: int) -> np.ndarray:
    """`count` of the 16 patches of each image in each other's places."""
    side = images.shape[1] // 4
    patches = images.reshape(-1, 4, side, 4, side, images.shape[-1]).swapaxes(2, 3)
    patches = patches.reshape(len(images), 16, side, side, -1).copy()
    rng = np.random.default_rng(2)
    for image in patches:
        chosen = rng.permutation(16)[:count]
        image[chosen] = image[np.roll(chosen, 1)]
    return patches.reshape(-1, 4, 4, side, side, images.shape[-1]).swapaxes(2, 3).reshape(images.shape)


DAMAGES = {
    "blur": (blurred, (0.5, 1.0, 1.5, 2.5)),
    "noise": (noisy, (5, 10, 20, 40, 80)),
    "jpeg": (compressed, (70, 30, 10, 5)),
    "swap": (swapped, (2, 4, 8, 16)),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return Truths(DataConfig("builtin:photos", image_size=32, batch_size=64), tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    config = DataConfig("builtin:digits", image_size=16, channels=1, batch_size=64)
    return Truths(config, tmp_path_factory.mktemp("digits"))


# Processes of pytest-xdist would each train a network of their own, but for `--dist loadgroup`.
SOURCES = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ("photos", "digits")]


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("source", SOURCES)
def test_distance_grows_with_damage(source, damage, request):
    truths = request.getfixturevalue(source)
    change, strengths = DAMAGES[damage]
    distances = [truths.distance(truths.images), *(truths.distance(change(truths.images, s)) for s in strengths)]
    assert np.all(np.diff(distances) > 0), distances


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_halves_of_one_set_are_near(source, request):
    truths = request.getfixturevalue(source)
    assert truths.halves() < 0.1 * truths.distance(noisy(truths.images, 80))


@pytest.mark.slow
@pytest.mark.xdist_group("digits")
def test_missing_classes_are_seen(digits):
    distances = [digits.distance(digits.images[digits.labels >= first]) for first in (0, 1, 2, 4)]
    assert np.all(np.diff(distances) > 0), distances
    assert digits.halves() < 0.1 * distances[1], distances


@pytest.mark.slow
@pytest.mark.xdist_group("digits")
def test_logits_tell_right_labels_from_shuffled_ones(digits):
    found = digits.features(digits.images, "logits").argmax(-1)
    assert np.mean(found == digits.labels) > 0.95
    assert np.mean(found == np.random.default_rng(0).permutation(digits.labels)) < 0.2
