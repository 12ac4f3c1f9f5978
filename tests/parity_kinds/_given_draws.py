"""Losses and pipelines with a case's numbers in the place of random ones."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from unittest import mock

import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.types import Array


@dataclasses.dataclass(frozen=True)
class _Stream:
    """What stands for the keys of a named stream."""

    draws: Array  # of each sample, or (steps, B, ...) once a step is chosen
    num: int  # samples

    def at(self, index: Array | int) -> _Stream:
        return dataclasses.replace(self, draws=self.draws[index])


@contextlib.contextmanager
def given(draws: Mapping[str, Array]) -> Iterator[None]:
    """Draws of these streams are the first rows of `draws`, of a folded one its row of that number; nothing is dropped.

    Streams that are not given cannot be drawn from.
    """
    with (
        mock.patch.object(rng, "stream_each", lambda keys, name: _Stream(jnp.asarray(draws.get(name, 0)), len(keys))),
        mock.patch.object(rng, "fold_each", lambda stream, index: stream.at(index)),
        mock.patch.object(rng, "normal_each", lambda stream, shape: stream.draws[: stream.num].reshape(-1, *shape)),
        mock.patch.object(rng, "randint_each", lambda stream, low, high: stream.draws[: stream.num]),
        mock.patch.object(rng, "bernoulli_each", lambda stream, probability: jnp.zeros(stream.num, bool)),
    ):
        yield
