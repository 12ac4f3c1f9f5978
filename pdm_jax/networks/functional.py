"""Modules as pure functions: a static definition and a plain dict of arrays.

A module is taken apart once at set-up. Everything jitted passes plain dicts, which dispatch several times
faster than `nnx.jit`, and puts the module together again while tracing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from pdm_jax.types import Array, Params


@dataclasses.dataclass(frozen=True)
class Definition:
    """A network without its numbers."""

    graphdef: Any
    shapes: Params  # nested dict of ShapeDtypeStruct
    init: Callable[[Array], Params]  # PRNG key -> nested dict of arrays; jit it

    def bind(self, params: Params) -> nnx.Module:
        """The module with these parameters; cheap, meant for inside a traced function."""
        return nnx.merge(self.graphdef, params)


def define(make: Callable[[nnx.Rngs], nnx.Module]) -> Definition:
    """Takes `make(rngs) -> module` apart without allocating any parameter."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: make(_rngs(jax.random.key(0)))))

    def init(key: Array) -> Params:
        return nnx.to_pure_dict(nnx.state(make(_rngs(key))))

    return Definition(graphdef, nnx.to_pure_dict(state), init)


class _Stream(nnx.RngStream):
    """nnx's stream of keys, with a counter in Python: each update of a traced one walks all that was traced before."""

    def __init__(self, key: Array):
        super().__init__(key, tag="default")
        self.draws = 0

    def __call__(self) -> Array:
        self.draws += 1
        return jax.random.fold_in(self.key[...], self.draws - 1)


def _rngs(key: Array) -> nnx.Rngs:
    """The keys of `nnx.Rngs(key)`, in a time that does not grow with the square of their number."""
    rngs = nnx.Rngs(key)
    rngs.default = _Stream(key)
    return rngs


def count_params(params: Params) -> int:
    """Numbers in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
