"""Every metric against numbers of the official programs on the same features and images."""

import json

import jax
import numpy as np
import pytest

from pdm_jax.config import MeshConfig
from pdm_jax.evaluation.features import deal
from pdm_jax.evaluation.frechet import frechet_distance
from pdm_jax.evaluation.inception_score import ClassSums, even_split, inception_score
from pdm_jax.evaluation.kernel_distance import kernel_distance
from pdm_jax.evaluation.manifold import precision_recall
from pdm_jax.evaluation.pairs import psnr, ssim
from pdm_jax.evaluation.statistics import Statistics
from pdm_jax.parallel import make_mesh
from tests.evaluation import make_golden_metrics as recipe


@pytest.fixture(scope="module")
def official(golden):
    return json.loads((golden / "evaluation" / "metrics.json").read_text())


def check_features(official):
    for kind in recipe.FEATURES:
        expected = official["features"][kind]
        features, reference = recipe.make_features(kind)
        distance = frechet_distance(Statistics.of(features), Statistics.of(reference))
        assert distance == pytest.approx(expected["pytorch-fid"], rel=1e-4)
        assert distance == pytest.approx(expected["torch-fidelity"], rel=1e-4)

        found = kernel_distance(features, reference, subsets=recipe.SUBSETS, subset_size=recipe.SUBSET_SIZE)
        assert found.mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-4)
        assert found.std == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-3)

        found = precision_recall(features, reference, mesh=make_mesh(MeshConfig()))
        assert found.precision == pytest.approx(expected["precision"], abs=1e-4)
        assert found.recall == pytest.approx(expected["recall"], abs=1e-4)


def check_logits(official):
    logits = recipe.make_logits()
    in_order = np.arange(len(logits))
    places = np.argsort(np.random.RandomState(recipe.SEED).permutation(len(logits)))
    for index, key in [(in_order, "inception score"), (places, "inception score, shuffled")]:
        splits = deal([ClassSums.empty(logits.shape[1])] * 10, logits, even_split(index, len(logits)))
        found = inception_score(splits)
        assert found.mean == pytest.approx(official[key]["inception_score_mean"], rel=1e-6)
        assert found.std == pytest.approx(official[key]["inception_score_std"], rel=1e-6)


def check_images(official):
    pairs = recipe.make_images()
    for space, expected in official["images"].items():
        for program in ("skimage", "torchmetrics"):
            for metric in (psnr, ssim):
                found = jax.device_get(metric(*pairs, luma=space == "luma"))
                np.testing.assert_allclose(found, expected[f"{program} {metric.__name__}"], rtol=0, atol=1e-4)


CHECKS = [check_features, check_logits, check_images]


@pytest.mark.parametrize("check", CHECKS)
def test_as_the_official_programs(check, official):
    check(official)
