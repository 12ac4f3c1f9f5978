"""The Inception Score of predictions whose score is known, and how splits are filled."""

import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation.features import deal
from pdm_jax.evaluation.inception_score import ClassSums, even_split, inception_score


def split(logits, splits=2):
    index = np.arange(len(logits))
    parts = deal([ClassSums.empty(logits.shape[1])] * splits, logits, even_split(index, len(logits), splits))
    return parts, inception_score(parts)


def test_sure_and_even_predictions_score_the_number_of_classes():
    _, score = split(np.tile(1000 * np.eye(5, dtype=np.float32), (4, 1)))
    assert (score.mean, score.std) == (pytest.approx(5), pytest.approx(0, abs=1e-12))


def test_equal_predictions_score_one():
    _, score = split(np.tile(np.array([[3, 1, -2]], np.float32), (8, 1)))
    assert score.mean == pytest.approx(1)


def test_batches_in_any_order_change_nothing():
    logits = np.random.RandomState(0).randn(23, 4)
    whole, expected = split(logits)
    parts = [ClassSums.empty(4)] * 2
    for index in np.array_split(np.random.RandomState(1).permutation(23), 5):
        parts = deal(parts, logits[index], even_split(index, 23, 2))
    assert [part.n for part in parts] == [part.n for part in whole] == [11, 12]
    assert inception_score(parts).mean == pytest.approx(expected.mean, rel=1e-12)


def test_even_splits_are_contiguous():
    np.testing.assert_array_equal(even_split(np.arange(7), 7, 3), [0, 0, 1, 1, 2, 2, 2])


def test_an_empty_split_and_a_nan_are_refused():
    with pytest.raises(UserError, match="in 10 splits needs an image in each"):
        split(np.zeros((9, 4)), splits=10)
    with pytest.raises(UserError, match="1 of 2 images have features that are NaN"):
        ClassSums.empty(2).add(np.array([[0, 1], [np.nan, 0]]))
