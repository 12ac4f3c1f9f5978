"""PDM's TensorFlow networks at the released sizes, with weights and images made by formulas."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.types import Array
from tests.parity_kinds._case import Case
from tests.parity_kinds.pdm_tf import build, forward

INPUTS = ("t", "y")


def expected(meta: Mapping) -> dict[str, object]:
    """Numbers that tell whether the formulas were understood."""
    return {f"checksum/{name}": value for name, value in meta["checksum"].items()}


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs."""
    weights = _weights(case)
    size = case.meta["config"]["image_resolution"]
    x = np.random.default_rng([case.meta["seed"], 1_000_000]).standard_normal((1, size, size, 3), dtype=np.float32)
    mean, var = map(np.asarray, forward(build(case.meta["config"], weights), {**case.io, "x": x}))
    out = {
        "checksum/x_sum": x.sum(dtype=np.float64),
        "checksum/first_weight_first_values": weights[0][1].ravel()[:4],
    }
    for name, array in (("x", x), ("mean", mean), ("var", var)):
        exact = array.astype(np.float64)
        out |= {
            f"{name}_sub": _thinned(array, case.meta["stored"]),
            f"{name}_sum": exact.sum((0, 1, 2)),
            f"{name}_sq": (exact**2).sum((0, 1, 2)),
        }
    return out


def _weights(case: Case) -> list[tuple[str, np.ndarray]]:
    """Each tensor of the key list by its kind: its name's last part."""
    path = case.root / case.meta["keys_file"]
    if not path.is_file():
        raise UserError(f"{case.folder} needs {path}; give its place by --root")
    weights = []
    for i, (name, shape) in enumerate(json.loads(path.read_text())["weights"]):
        g = np.random.default_rng([case.meta["seed"], i]).standard_normal(shape, dtype=np.float32)
        kind = name.rpartition("/")[2].removesuffix(":0")
        weights.append((name, _scaled(g, kind)))
    return weights


def _scaled(g: np.ndarray, kind: str) -> np.ndarray:
    if kind == "gamma":
        return np.float32(1) + np.float32(0.2) * g
    if kind in ("beta", "bias"):
        return np.float32(0.1) * g
    if kind == "embeddings":
        return np.float32(0.7) * g
    return g / np.sqrt(np.float32(np.prod(g.shape[:-1])))


def _thinned(array: np.ndarray, rule: str) -> np.ndarray:
    """The rows and columns that were stored; the rule reads "... array[:, 1::8, 2::8, :]"."""
    row, row_step, col, col_step = map(int, re.search(r"\[:, (\d+)::(\d+), (\d+)::(\d+), :\]", rule).groups())
    return array[:, row::row_step, col::col_step]
