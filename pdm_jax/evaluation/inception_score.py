"""The Inception Score, from sums over each split of the samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.evaluation.features import check_features, check_sizes


@dataclasses.dataclass(frozen=True, eq=False)
class ClassSums:
    """Sums over n images of their class probabilities p."""

    n: int
    negentropy: np.ndarray  # () float64, of sum_c p log p
    probabilities: np.ndarray  # (C,) float64, of p

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Over no images yet."""
        return cls(0, np.zeros(()), np.zeros(num_classes))

    def add(self, logits: np.ndarray) -> Self:
        """With the images of these logits (B, C) too.

        Raises:
          UserError: a logit is NaN or infinite, or C is another one.
        """
        logits = check_features(logits).astype(np.float64)
        check_sizes(logits.shape[1], self.probabilities.size)
        log_p = logits - logits.max(1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
        p = np.exp(log_p)
        return self.merge(type(self)(len(p), np.sum(p * log_p), p.sum(0)))

    def merge(self, other: Self) -> Self:
        """Over the images of both."""
        return type(self)(
            self.n + other.n, self.negentropy + other.negentropy, self.probabilities + other.probabilities
        )


@dataclasses.dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation (of a population) over the splits."""

    mean: float
    std: float


def even_split(index: np.ndarray, total: int, splits: int = 10) -> np.ndarray:
    """The number (B,) of the split of samples `index` (B,) out of `total`: torch-fidelity's contiguous splits.

    torch-fidelity shuffles first; give the place of a sample in the shuffled order as its index to do the same.
    ADM's evaluator has splits of 5000 instead: index // 5000.
    """
    ends = np.arange(1, splits) * total // splits
    return np.searchsorted(ends, index, side="right")


def inception_score(splits: Sequence[ClassSums]) -> InceptionScore:
    """exp of the mean divergence KL(p || mean p) of each split's images, and mean and deviation over the splits.

    Salimans et al. 2016 (Improved techniques for training GANs), section 4; the splits are filled by
    `deal(splits, logits, even_split(index, total))`.

    Raises:
      UserError: a split is empty.
    """
    if not splits or min(split.n for split in splits) == 0:
        raise UserError(f"an Inception Score in {len(splits)} splits needs an image in each; add images")
    scores = []
    for split in splits:
        marginal = split.probabilities / split.n
        seen = marginal[marginal > 0]
        scores.append(np.exp(split.negentropy / split.n - np.sum(seen * np.log(seen))))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))
