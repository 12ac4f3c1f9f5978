"""Features on their way from the device to a metric: checked, dealt to parts, gathered from all hosts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

import jax
import numpy as np

from pdm_jax.errors import UserError


class Summary(Protocol):
    """A dataclass of a count and float64 arrays that sums up rows, such as `Statistics` and `ClassSums`."""

    def add(self, rows: np.ndarray) -> Self:
        """With these rows (B, D) too."""

    def merge(self, other: Self) -> Self:
        """With the rows of another one too."""


S = TypeVar("S", bound=Summary)


def check_features(features: np.ndarray, *, least: int = 0) -> np.ndarray:
    """Features as a NumPy array, of any float type.

    Raises:
      UserError: they are not (B, D), are fewer than `least`, or are not all finite; says how many.
    """
    features = np.asarray(features)
    if features.ndim != 2:
        raise UserError(f"features have the shape {features.shape}, expected (images, size); flatten each image's")
    if len(features) < least:
        raise UserError(f"the metric needs at least {least} images on each side, got {len(features)}; add images")
    wrong = np.count_nonzero(~np.isfinite(features).all(1))
    if wrong:
        raise UserError(
            f"{wrong} of {len(features)} images have features that are NaN or infinite; "
            "check these images and the weights of the feature network"
        )
    return features


def check_sizes(features: int, reference: int) -> None:
    """Raises a `UserError` unless features of both sides have the same size."""
    if features != reference:
        raise UserError(f"features of {features} numbers cannot meet a reference of {reference}; use one network")


def deal(parts: Sequence[S], rows: np.ndarray, numbers: np.ndarray) -> list[S]:
    """Adds each of `rows` (B, D) to the part of its number (B,).

    Numbers come from the index of a sample in the whole set (`shuffled % len(groups)`, `even_split(index, total)`),
    so that batches and hosts change nothing. For `Statistics` of large features, deal a few thousand rows at a time.
    """
    return [part.add(rows[numbers == number]) for number, part in enumerate(parts)]


def gathered(summary: S) -> S:
    """The merged summaries of all hosts, the same on each; on one host the summary itself."""
    if jax.process_count() == 1:
        return summary
    from jax.experimental import multihost_utils

    fields = [np.asarray(getattr(summary, field.name), np.float64) for field in dataclasses.fields(summary)]
    sent = np.concatenate([field.ravel() for field in fields])
    # As bits: JAX would round float64 to float32 on the way.
    received = np.ascontiguousarray(multihost_utils.process_allgather(sent.view(np.uint32))).view(np.float64)
    ends = np.cumsum([field.size for field in fields])[:-1]

    def unpacked(row: np.ndarray) -> S:
        count, *arrays = (x.reshape(y.shape) for x, y in zip(np.split(row, ends), fields, strict=True))
        return type(summary)(int(count), *arrays)

    return functools.reduce(lambda a, b: a.merge(b), map(unpacked, received))
