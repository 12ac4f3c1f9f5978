"""The reference weights: safetensors, sometimes as small codes, with their order in a JSON file beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.interop import safetensors_files


def read(path: str | os.PathLike) -> list[tuple[str, np.ndarray]]:
    """Names and float32 arrays in the official order.

    The order is that of `layout` in `meta.json` beside the file, or of `weights` in a JSON file of its name.

    Raises:
      UserError: the file or its order is missing, or they do not hold the same names.
    """
    path = Path(path)
    tensors, _ = safetensors_files.read(path)
    meta = _read_json(path.with_name("meta.json"))
    if "layout" in meta:
        names = [f"{group}/{weight}" for group, weight, *_ in meta["layout"]]
    else:
        names = [name for name, *_ in _read_json(path.with_suffix(".json")).get("weights", [])]
    if not names:
        raise UserError(
            f"{path} does not keep an order; put a meta.json with 'layout' or a "
            f"{path.with_suffix('.json').name} with 'weights' beside it"
        )
    if different := sorted(set(names) ^ set(tensors)):
        raise UserError(f"{path} and the order beside it differ in {', '.join(different)}; take both from one source")
    return [(name, dequantize(name, tensors[name], meta)) for name in names]


def dequantize(name: str, tensor: np.ndarray, meta: Mapping[str, Any]) -> np.ndarray:
    """The float32 values of a stored tensor: int8 codes are multiplied by `weight_scale[name]` of the meta."""
    values = tensor.astype(np.float32)
    return values * np.float32(meta["weight_scale"][name]) if tensor.dtype == np.int8 else values


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}
