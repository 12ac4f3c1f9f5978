"""Precision and recall against a plain computation, and how they react to noise and to dropped modes."""

import numpy as np
import pytest

from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError
from pdm_jax.evaluation.manifold import PrecisionRecall, precision_recall
from pdm_jax.parallel import make_mesh


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(data=4, fsdp=2))


def draw(seed, num, size=5):
    return np.random.RandomState(seed).randn(num, size)


def modes(seed, num, count, of=4):
    """Points around the first `count` of some corners far from each other."""
    return draw(seed, num, size=of) + 20 * np.eye(of)[np.arange(num) % count]


def plain(features, reference, k):
    def distances(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=2)

    radii, reference_radii = (np.sort(distances(x, x))[:, k] for x in (features, reference))
    cross = distances(features, reference)
    inside = cross <= reference_radii[None]
    recalled = (cross <= radii[:, None]).any(0)
    return PrecisionRecall(inside.any(1).mean(), recalled.mean(), inside.sum(1).mean() / k, inside.any(0).mean())


@pytest.mark.parametrize("block", [3, 7, 4096])
@pytest.mark.parametrize("k", [1, 3])
def test_blocks_and_devices_change_nothing(mesh, block, k):
    features, reference = 1.1 * draw(0, 53) + 1000, draw(1, 41) + 1000
    found = precision_recall(features, reference, mesh=mesh, k=k, block=block)
    expected = plain(features, reference, k)
    for name, value in vars(expected).items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-6), name


def test_noise_lowers_precision(mesh):
    reference, clean, noise = draw(2, 200), draw(3, 200), draw(4, 200)
    found = [precision_recall(clean + s * noise, reference, mesh=mesh) for s in (0, 0.7, 1.5, 4)]
    precisions = [result.precision for result in found]
    assert precisions == sorted(precisions, reverse=True) and precisions[0] > 0.75 and precisions[-1] < 0.3
    assert found[-1].density < found[0].density and found[-1].coverage < found[0].coverage


def test_dropped_modes_lower_recall_and_not_precision(mesh):
    reference = modes(5, 200, count=4)
    found = [precision_recall(modes(6, 200, count), reference, mesh=mesh) for count in (4, 3, 2, 1)]
    recalls = [result.recall for result in found]
    assert recalls == sorted(recalls, reverse=True) and recalls[-1] < 0.3 < 0.7 < recalls[0]
    assert min(result.precision for result in found) > 0.7
    assert found[-1].coverage < 0.3 < found[0].coverage


def test_a_set_recalls_itself(mesh):
    features = draw(7, 30)
    found = precision_recall(features, features, mesh=mesh)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)


@pytest.mark.parametrize("num, num_reference, k", [(3, 20, 3), (20, 5, 5)])
def test_too_few_images_are_refused(mesh, num, num_reference, k):
    with pytest.raises(UserError, match=f"needs at least {k + 1} images on each side, got {k}"):
        precision_recall(draw(0, num), draw(1, num_reference), mesh=mesh, k=k)


def test_k_below_one_is_refused(mesh):
    with pytest.raises(UserError, match="k is 0"):
        precision_recall(draw(0, 9), draw(1, 9), mesh=mesh, k=0)
