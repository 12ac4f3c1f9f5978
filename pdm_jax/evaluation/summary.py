"""What metrics of distributions need of a set of images, from one pass of it through a feature network."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np

from pdm_jax.evaluation.extraction import Extractor
from pdm_jax.evaluation.features import check_features, deal, gathered
from pdm_jax.evaluation.image_sets import Batch
from pdm_jax.evaluation.inception_score import ClassSums, even_split
from pdm_jax.evaluation.statistics import Statistics

_ROWS = 2048  # features added to statistics at a time: adding costs the square of their size, however few they are
_SHUFFLE = 2020  # torch-fidelity's seed of the order in which it splits for the Inception Score


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to keep of a set."""

    statistics: tuple[str, ...] = ()  # outputs of the network whose mean and covariance are needed
    groups: int = 1  # of images, for confidence intervals and extrapolation
    splits: int = 0  # of the Inception Score
    features: bool = False  # all features of the network's first output


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """What was kept, over all hosts."""

    n: int
    groups: Mapping[str, Sequence[Statistics]]  # by output
    splits: Sequence[ClassSums]
    features: np.ndarray | None  # (n, D) float32 in the order of the set

    def statistics(self, output: str) -> Statistics:
        """Of all groups."""
        return functools.reduce(Statistics.merge, self.groups[output])


def summarize(extractor: Extractor, batches: Iterable[Batch], total: int, wanted: Wanted) -> Summary:
    """One pass over this host's batches; hosts are merged at the end.

    Args:
      extractor: the feature network.
      batches: uint8 images with their index in the whole set.
      total: images on all hosts.
      wanted: what to keep.

    Raises:
      UserError: features are not finite, or images too small.
    """
    outputs = extractor.network.outputs
    first = next(iter(outputs))
    groups = {name: [Statistics.empty(outputs[name])] * wanted.groups for name in wanted.statistics}
    splits = [ClassSums.empty(outputs["logits"])] * wanted.splits if wanted.splits else []
    # Neighbours may be of one class, or every tenth: parts are dealt in an order of their own.
    places = np.argsort(np.random.RandomState(_SHUFFLE).permutation(total))
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for index, rows in _in_blocks(extractor, batches):
        for name in groups:
            groups[name] = deal(groups[name], rows[name], places[index] % wanted.groups)
        if splits:
            splits = deal(splits, rows["logits"], even_split(places[index], total, wanted.splits))
        if wanted.features:
            kept.append((index, check_features(rows[first])))
    return Summary(
        n=total,
        groups={name: [gathered(part) for part in parts] for name, parts in groups.items()},
        splits=[gathered(part) for part in splits],
        features=gather_rows(kept, total, outputs[first]) if wanted.features else None,
    )


def _in_blocks(extractor: Extractor, batches: Iterable[Batch]):
    """Indices (b,) and features by output, (b, D) each, some thousand at a time."""
    indices: list[np.ndarray] = []

    def images():
        for batch in batches:
            indices.append(batch["index"])
            yield (batch["image"],)

    rows: list[Mapping[str, np.ndarray]] = []
    taken = 0
    for features in extractor(images()):
        rows.append(features)
        if sum(len(index) for index in indices[taken : taken + len(rows)]) >= _ROWS:
            yield _joined(indices[taken : taken + len(rows)], rows)
            taken, rows = taken + len(rows), []
    if rows:
        yield _joined(indices[taken:], rows)


def _joined(indices: Sequence[np.ndarray], rows: Sequence[Mapping[str, np.ndarray]]):
    return np.concatenate(indices), {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def gather_rows(kept: Sequence[tuple[np.ndarray, np.ndarray]], total: int, size: int) -> np.ndarray:
    """All hosts' rows (total, size) float32, at their indices."""
    index = np.concatenate([np.zeros(0, np.int64), *(index for index, _ in kept)])
    rows = np.concatenate([np.zeros((0, size), np.float32), *(rows for _, rows in kept)])
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        most = -(-total // jax.process_count())  # the hosts' shares differ by one; what is filled up goes to the end
        index = np.pad(index, (0, most - len(index)), constant_values=total).astype(np.int32)
        rows = np.pad(rows, [(0, most - len(rows)), (0, 0)])
        index, rows = (np.concatenate(list(multihost_utils.process_allgather(x))) for x in (index, rows))
    whole = np.empty((total + 1, size), np.float32)
    whole[index] = rows
    return whole[:total]
