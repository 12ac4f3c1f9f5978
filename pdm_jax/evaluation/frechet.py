"""The Fréchet distance between Gaussians: FID on Inception's pool features, sFID on its spatial ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pdm_jax.evaluation.features import check_sizes
from pdm_jax.evaluation.statistics import Moments, Statistics


def frechet_distance(a: Statistics | Moments, b: Statistics | Moments) -> float:
    """|mean_a - mean_b|² + tr(A + B - 2 (A B)^(1/2)) of the covariances A and B, in float64, never negative.

    Heusel et al. 2017 (GANs trained by a two time-scale update rule), section 4. With A = F Fᵀ and B = G Gᵀ the
    trace of the root is the nuclear norm of Fᵀ G: a sum of singular values, real also where fewer images than
    dimensions make A or B singular. pytorch-fid 0.3.0 and torch-fidelity 0.4.0 take it from A B itself.

    Raises:
      UserError: the two have different sizes, or one has fewer than 2 images.
    """
    return distance_to(b)(a)


def distance_to(reference: Statistics | Moments) -> Callable[[Statistics | Moments], float]:
    """`frechet_distance` to one reference, whose eigenvectors are computed only once."""
    reference_trace, reference_factor = _factor(reference.covariance)

    def distance(statistics: Statistics | Moments) -> float:
        check_sizes(statistics.mean.size, reference.mean.size)
        trace, factor = _factor(statistics.covariance)
        difference = statistics.mean - reference.mean
        overlap = np.linalg.svd(factor.T @ reference_factor, compute_uv=False).sum()
        return max(float(difference @ difference + trace + reference_trace - 2 * overlap), 0.0)

    return distance


def _factor(covariance: np.ndarray) -> tuple[float, np.ndarray]:
    """The trace, and F (D, rank) with F Fᵀ = covariance."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > np.finfo(np.float64).eps * len(values) * values[-1]
    return float(np.trace(covariance)), vectors[:, kept] * np.sqrt(values[kept])
