"""The kernel Inception distance (KID)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.evaluation.features import check_features, check_sizes
from pdm_jax.types import Array


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation (of a population) over the subsets."""

    mean: float
    std: float


def kernel_distance(
    features: np.ndarray, reference: np.ndarray, *, subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> KernelDistance:
    """The unbiased squared maximum mean discrepancy under the kernel (x·y / D + 1)³, over random subsets.

    Bińkowski et al. 2018 (Demystifying MMD GANs), section 4; defaults, draws and deviation as in torch-fidelity
    0.4.0. Slightly negative values are right: the estimate is unbiased.

    Args:
      features: (N, D) of the images to judge.
      reference: (M, D).

    Raises:
      UserError: a side has fewer than `subset_size` images, features are not finite, or sizes differ.
    """
    features = check_features(features, least=subset_size)
    reference = check_features(reference, least=subset_size)
    check_sizes(features.shape[1], reference.shape[1])
    random = np.random.RandomState(seed)

    def subset(of: np.ndarray) -> np.ndarray:
        return of[random.choice(len(of), subset_size, replace=False)].astype(np.float32)

    values = [_discrepancy(subset(features), subset(reference)) for _ in range(subsets)]
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    xx, xy, yy = (np.sum(sums, dtype=np.float64) for sums in jax.device_get(_row_sums(x, y)))
    return (xx + yy) / (len(x) * (len(x) - 1)) - 2 * xy / len(x) ** 2


@jax.jit
def _row_sums(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Sums (m,) of each row of k(x, x), k(x, y) and k(y, y), all (m, m), the first and last without the diagonal."""

    def kernel(a: Array, b: Array) -> Array:
        return (jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST) / a.shape[1] + 1) ** 3

    others = 1 - jnp.eye(len(x), dtype=x.dtype)
    return (kernel(x, x) * others).sum(1), kernel(x, y).sum(1), (kernel(y, y) * others).sum(1)
