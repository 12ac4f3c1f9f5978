"""Improved precision and recall, density and coverage: who lies among whose nearest neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pdm_jax.errors import UserError
from pdm_jax.evaluation.features import check_features, check_sizes
from pdm_jax.parallel import batch_sharding, replicated
from pdm_jax.types import Array


@dataclasses.dataclass(frozen=True)
class PrecisionRecall:
    """Fractions in [0, 1], and a density that may be more than 1."""

    precision: float  # of images inside the ball of a reference image
    recall: float  # of reference images inside the ball of an image
    density: float  # reference balls around an image, on average, over k
    coverage: float  # of reference images with an image inside their ball


class _Columns(NamedTuple):
    """Points in blocks; the last block is filled up with points that lie infinitely far from all others."""

    points: Array  # (blocks, block, D) float32
    norms: Array  # (blocks, block) float32, squared


def precision_recall(
    features: np.ndarray, reference: np.ndarray, *, mesh: Mesh, k: int = 3, block: int = 4096
) -> PrecisionRecall:
    """Compares the manifolds of two sets: the balls around each point that reach its k-th nearest neighbour.

    Precision and recall: Kynkäänniemi et al. 2019 (Improved precision and recall metric), as torch-fidelity 0.4.0.
    Density and coverage: Naeem et al. 2020 (Reliable fidelity and diversity metrics), which has k = 5.
    Each device holds one side, and `block` rows' distances to `block` columns: never a whole matrix of distances.

    Args:
      features: (N, D) of the images to judge, the same on all hosts.
      reference: (M, D).
      mesh: where rows are sharded.
      k: the neighbour that a ball reaches.
      block: rows a device, and columns, whose distances are computed at a time.

    Raises:
      UserError: a side has no more than k images, features are not finite, or sizes differ.
    """
    if k < 1:
        raise UserError(f"k is {k}; balls reach a neighbour from the first on, usually the third")
    features, reference = check_features(features, least=k + 1), check_features(reference, least=k + 1)
    check_sizes(features.shape[1], reference.shape[1])
    # Squared distances are differences of squared norms: the smaller these, the more digits are left.
    centre = reference.mean(0, dtype=np.float64)
    features, reference = ((x - centre.astype(x.dtype)).astype(np.float32) for x in (features, reference))

    radii = _radii(features, k, mesh, block)
    reference_radii = _radii(reference, k, mesh, block)
    balls, recalled, covered = _memberships(features, radii, reference, reference_radii, mesh, block)
    return PrecisionRecall(
        float(np.mean(balls > 0)), float(np.mean(recalled)), float(np.mean(balls) / k), float(np.mean(covered))
    )


def _radii(points: np.ndarray, k: int, mesh: Mesh, block: int) -> np.ndarray:
    """Squared distances (N,) to the k-th nearest other point."""
    nearest = jax.jit(_nearest, static_argnames="k", out_shardings=replicated(mesh))
    columns = _columns(points, mesh, block)
    radii = [np.asarray(nearest(rows, columns, k=k)) for rows in _row_blocks(points, mesh, block, fill=0)]
    return np.concatenate(radii)[: len(points)]


def _memberships(
    features: np.ndarray,
    radii: np.ndarray,
    reference: np.ndarray,
    reference_radii: np.ndarray,
    mesh: Mesh,
    block: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Balls of the reference around each feature (N,); which reference points (M,) are in a ball or hold a point."""
    inside = jax.jit(_inside, out_shardings=replicated(mesh))
    columns = _columns(reference, mesh, block)
    column_radii = _column_blocks(reference_radii, mesh, block, fill=-1)
    row_blocks = zip(_row_blocks(features, mesh, block, fill=0), _row_blocks(radii, mesh, block, fill=-1), strict=True)
    parts = [jax.device_get(inside(rows, radii, columns, column_radii)) for rows, radii in row_blocks]
    balls, recalled, covered = zip(*parts, strict=True)
    either = (np.any(x, axis=0).ravel()[: len(reference)] for x in (recalled, covered))
    return np.concatenate(balls)[: len(features)], *either


def _nearest(rows: Array, columns: _Columns, *, k: int) -> Array:
    """Squared distances of rows (R, D) to their k-th nearest columns; the nearest of all, itself, is number 0."""

    def step(best: Array, columns: _Columns) -> tuple[Array, None]:
        candidates = jnp.concatenate([best, _squared_distances(rows, columns)], axis=1)
        return -jax.lax.top_k(-candidates, k + 1)[0], None

    best, _ = jax.lax.scan(step, jnp.full((len(rows), k + 1), jnp.inf), columns)
    return best[:, k]


def _inside(rows: Array, radii: Array, columns: _Columns, column_radii: Array) -> tuple[Array, Array, Array]:
    """Columns' balls around each row (R,); which columns (blocks, block) lie in a row's ball, and hold a row."""

    def step(balls: Array, block: tuple[_Columns, Array]) -> tuple[Array, tuple[Array, Array]]:
        columns, column_radii = block
        distances = _squared_distances(rows, columns)
        held = (distances <= column_radii[None]) & (radii >= 0)[:, None]  # rows that only fill up have radius -1
        return balls + held.sum(1, dtype=jnp.int32), ((distances <= radii[:, None]).any(0), held.any(0))

    balls, (recalled, covered) = jax.lax.scan(step, jnp.zeros(len(rows), jnp.int32), (columns, column_radii))
    return balls, recalled, covered


def _squared_distances(rows: Array, columns: _Columns) -> Array:
    """(R, block)."""
    products = jnp.matmul(rows, columns.points.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(jnp.sum(rows**2, axis=1)[:, None] + columns.norms[None] - 2 * products, 0)


def _columns(points: np.ndarray, mesh: Mesh, block: int) -> _Columns:
    norms = np.sum(points**2, axis=1)
    return _Columns(_column_blocks(points, mesh, block, fill=0), _column_blocks(norms, mesh, block, fill=np.inf))


def _column_blocks(array: np.ndarray, mesh: Mesh, block: int, *, fill: float) -> Array:
    """All blocks of columns, on every device."""
    return jax.device_put(_blocks(array, min(block, len(array)), fill=fill), replicated(mesh))


def _row_blocks(array: np.ndarray, mesh: Mesh, block: int, *, fill: float) -> Iterator[Array]:
    """Blocks of rows, one after another, each sharded over the mesh."""
    block = min(block, -(-len(array) // mesh.size))
    for rows in _blocks(array, block * mesh.size, fill=fill):
        yield jax.device_put(rows, batch_sharding(mesh))


def _blocks(array: np.ndarray, block: int, *, fill: float) -> np.ndarray:
    """(n, ...) as (blocks, block, ...), the end filled up."""
    padded = np.pad(array, [(0, -len(array) % block), *[(0, 0)] * (array.ndim - 1)], constant_values=fill)
    return padded.reshape(-1, block, *array.shape[1:])
