"""How sure a Fréchet distance is, from the statistics of groups of samples.

Samples are dealt to G groups in an order that has nothing to do with what they show (`deal(groups, features,
shuffled % G)`; the index itself often goes round the classes). Only the groups' statistics are kept, so
memory does not grow with the number of samples. The reference is taken as it is: what its own finite size does to
the distance is not looked at.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.evaluation.frechet import distance_to
from pdm_jax.evaluation.statistics import Moments, Statistics

GROUPS = 10


@dataclasses.dataclass(frozen=True)
class Interval:
    """A value and where it would likely lie with other samples, as many."""

    value: float
    low: float
    high: float
    standard_error: float


@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """A line through distances over 1 / n."""

    value: float  # at infinitely many samples
    slope: float  # the distance of n samples is value + slope / n


def confidence(groups: Sequence[Statistics], reference: Statistics | Moments, *, level: float = 0.95) -> Interval:
    """The Fréchet distance of all samples with its confidence interval.

    The delete-one-group jackknife (Tukey 1958; Efron & Tibshirani 1993, chapter 11) with Student's t at G - 1
    degrees of freedom. The interval is about the distance at this number of samples, which lies above that of
    infinitely many: `extrapolate` removes the difference.

    Raises:
      UserError: there are fewer than 2 groups, or a group has fewer than 2 samples.
    """
    from scipy.special import stdtrit

    _check(groups)
    distance = distance_to(reference)
    value = distance(_merged(groups))
    without = np.array([distance(_merged([*groups[:i], *groups[i + 1 :]])) for i in range(len(groups))])
    error = float(np.sqrt((len(groups) - 1) * without.var()))
    margin = error * float(stdtrit(len(groups) - 1, (1 + level) / 2))
    return Interval(value, value - margin, value + margin, error)


def extrapolate(groups: Sequence[Statistics], reference: Statistics | Moments) -> Extrapolation:
    """The Fréchet distance at infinitely many samples, without the bias of a finite number.

    Chong & Forsyth 2020 (Effectively unbiased FID and Inception Score): the distance is linear in 1 / n. The line is
    fitted to the mean distances of all merges of k neighbouring groups, for every k that divides G: every size sees
    all samples. With 10 groups of 50,000 samples these are sizes from 5,000 to 50,000, as in the paper. It is linear
    only where the smallest group has more samples than a feature has dimensions. The standard error is that of
    `confidence`: all sizes share their samples, and with them the noise.

    Raises:
      UserError: there are fewer than 2 groups, or a group has fewer than 2 samples.
    """
    _check(groups)
    distance = distance_to(reference)
    points = []
    for size in (k for k in range(1, len(groups) + 1) if len(groups) % k == 0):
        merged = [_merged(groups[i : i + size]) for i in range(0, len(groups), size)]
        points.append([np.mean([1 / m.n for m in merged]), np.mean([distance(m) for m in merged])])
    inverse, distances = np.array(points).T
    slope, value = np.polyfit(inverse, distances, 1)
    return Extrapolation(float(value), float(slope))


def _check(groups: Sequence[Statistics]) -> None:
    fewest = min((group.n for group in groups), default=0)
    if len(groups) < 2 or fewest < 2:
        raise UserError(
            f"an interval or an extrapolation needs 2 groups of 2 images or more, got {len(groups)} groups, "
            f"the smallest of {fewest}; use at least {2 * GROUPS} images for the usual {GROUPS} groups"
        )


def _merged(groups: Sequence[Statistics]) -> Statistics:
    return functools.reduce(Statistics.merge, groups)
