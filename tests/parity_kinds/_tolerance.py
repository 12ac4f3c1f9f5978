"""The two forms of `meta.json:tolerance`, and the comparison they ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How near an array came to its reference."""

    name: str
    max_abs: float
    max_rel: float
    tolerance: str
    ok: bool


def compare(name: str, got: np.ndarray | None, ref: np.ndarray, tolerance: Mapping, is_trajectory: bool) -> Verdict:
    """Compares one array with its reference; one that is missing or has another shape fails.

    Args:
      tolerance: either `{name or its beginning: {atol, rtol}}`, where the longest match counts and `name[0]` is the
        first entry of that array, or scales with a `rule`: |got - ref| <= scale * max(1, largest |ref|).
      is_trajectory: whether the scale `trajectories_and_samples` is meant.
    """
    ref = np.asarray(ref)
    if got is None:
        return Verdict(name, np.nan, np.nan, "missing", False)
    got = np.asarray(got)
    if got.shape != ref.shape:
        return Verdict(name, np.nan, np.nan, f"shape {got.shape}, expected {ref.shape}", False)
    allowed, text = _allowed(name, ref, tolerance, is_trajectory)
    got, ref = got.astype(np.float64), ref.astype(np.float64)
    error = np.abs(got - ref)
    relative = error / np.maximum(np.abs(ref), np.finfo(np.float64).tiny)
    ok = bool(np.all(error <= allowed))  # false for NaN
    return Verdict(name, float(np.max(error, initial=0)), float(np.max(relative, initial=0)), text, ok)


def _allowed(name: str, ref: np.ndarray, tolerance: Mapping, is_trajectory: bool) -> tuple[np.ndarray, str]:
    """The largest error allowed at each element, and how that reads."""
    magnitude = np.abs(ref.astype(np.float64))
    if "rule" in tolerance:
        scale = tolerance[_scale_name(ref, tolerance, is_trajectory)]
        return np.full(ref.shape, scale * max(1.0, np.max(magnitude, initial=0))), f"{scale:g} max(1, |ref|)"
    matches = [key for key in tolerance if name.startswith(key)]
    entry = tolerance[max(matches, key=len, default="default")]
    allowed = entry["atol"] + entry["rtol"] * magnitude
    if first := tolerance.get(f"{name}[0]"):
        allowed[0] = first["atol"] + first["rtol"] * magnitude[0]
    return allowed, f"{entry['atol']:g} + {entry['rtol']:g} |ref|"


def _scale_name(ref: np.ndarray, tolerance: Mapping, is_trajectory: bool) -> str:
    if ref.dtype == np.uint8 and "uint8_images" in tolerance:
        return "uint8_images"
    if np.issubdtype(ref.dtype, np.integer) and "indices_and_timesteps" in tolerance:
        return "indices_and_timesteps"
    return "trajectories_and_samples" if is_trajectory else "default"
