"""LDM's layout tokens: boxes, classes and flags of taming-transformers' builder, with and without crop tokens."""

from __future__ import annotations

import numpy as np

from pdm_jax.data.layouts import FLAGS, WHOLE, LayoutCodec, LayoutObject
from tests.parity_kinds._case import Case

INPUTS = ("crop_*", "flip_*", "boxes_*", "classes_*", "flags_*", "points")


def run(case: Case) -> dict[str, np.ndarray]:
    """All of the case's outputs."""
    codec = LayoutCodec(
        num_classes=case.meta["no_object_classes"],
        max_objects=case.meta["no_max_objects"],
        num_tokens=case.meta["no_tokens"],
        crop_tokens=case.meta["encode_crop"],
        flags=_told(case.meta),
    )
    out = {name: _tokens(case, codec, name.rpartition("_")[2]) for name in case.wanted if name.startswith("tokens_")}
    if "points" in case.io:
        out["point_tokens"] = np.array([codec.point(*point) for point in case.io["points"].tolist()])
        out["point_back"] = np.array([codec.place(token) for token in out["point_tokens"].tolist()])
    return out


def _told(meta: dict) -> tuple[str, ...]:
    first, *others = FLAGS
    return (first,) * meta["use_group_parameter"] + tuple(others) * meta["use_additional_parameters"]


def _tokens(case: Case, codec: LayoutCodec, i: str) -> np.ndarray:
    columns = (case.io[f"{name}_{i}"].tolist() for name in ("classes", "boxes", "flags"))
    objects = [
        LayoutObject(number, tuple(box), frozenset(flag for flag, holds in zip(FLAGS, flags, strict=True) if holds))
        for number, box, flags in zip(*columns, strict=True)
    ]
    window, flipped = case.io.get(f"crop_{i}", np.array(WHOLE)), case.io.get(f"flip_{i}", np.array(False))
    return codec.encode(objects, tuple(window.tolist()), bool(flipped.all()))
