"""Mean and covariance of features, streamed and merged in float64."""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.evaluation.features import check_features, check_sizes

_BLOCK = 4096  # rows that are float64 at a time: 64 MiB at D = 2048


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance as a file gives them."""

    mean: np.ndarray  # (D,) float64
    covariance: np.ndarray  # (D, D) float64
    n: int | None = None  # images behind them; None where the file does not say


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """What is kept of n features: their mean and their scatter, the sum of outer products of deviations.

    Merging is that of Chan, Golub & LeVeque 1979 (Updating formulae and a pairwise algorithm for computing sample
    variances): exact but for rounding, and stable however far the mean lies from zero. An `add` or `merge` costs D²
    however few the rows, so add hundreds at a time.
    """

    n: int
    mean: np.ndarray  # (D,) float64
    scatter: np.ndarray  # (D, D) float64

    @classmethod
    def empty(cls, size: int) -> Self:
        """Of no features yet, D = size."""
        return cls(0, np.zeros(size), np.zeros((size, size)))

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """Of all rows of `features` (B, D); raises as `add` does."""
        features = check_features(features)
        return cls.empty(features.shape[1]).add(features)

    def add(self, features: np.ndarray) -> Self:
        """With these features (B, D) too.

        Raises:
          UserError: a feature is NaN or infinite, or D is another one.
        """
        features = check_features(features)
        check_sizes(features.shape[1], self.mean.size)
        total = self
        for start in range(0, len(features), _BLOCK):
            rows = features[start : start + _BLOCK].astype(np.float64)
            mean = rows.mean(0)
            rows -= mean
            total = total.merge(type(self)(len(rows), mean, rows.T @ rows))
        return total

    def merge(self, other: Self) -> Self:
        """Of the features of both."""
        check_sizes(other.mean.size, self.mean.size)
        n = self.n + other.n
        if n == 0:
            return self
        delta = other.mean - self.mean
        scatter = np.outer(delta * (self.n * other.n / n), delta)
        scatter += self.scatter
        scatter += other.scatter
        return type(self)(n, self.mean + delta * (other.n / n), scatter)

    @property
    def covariance(self) -> np.ndarray:
        """(D, D) with n - 1 in the denominator, as `np.cov`.

        Raises:
          UserError: n is below 2.
        """
        if self.n < 2:
            raise UserError(f"a covariance needs at least 2 images, got {self.n}; add images")
        return self.scatter / (self.n - 1)
