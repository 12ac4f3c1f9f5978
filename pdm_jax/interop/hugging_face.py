"""Folders as Hugging Face publishes them: `config.json` beside one safetensors file or several."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.interop import safetensors_files


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      UserError: the file does not exist or holds no JSON object.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(
            f"{path} does not exist; give a folder as downloaded from Hugging Face, with all files"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is not sound JSON ({error}); copy or download it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object; copy or download it again")
    return content


def read_tensors(folder: str | os.PathLike) -> dict[str, np.ndarray]:
    """Tensors by name, from `model.safetensors` or from the files that `model.safetensors.index.json` lists.

    Raises:
      UserError: a file does not exist or is damaged, or the index names a tensor that its file lacks.
    """
    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return safetensors_files.read(folder / "model.safetensors")[0]
    places = read_json(index).get("weight_map", {})  # file by tensor
    shards = {file: safetensors_files.read(folder / file)[0] for file in sorted(set(places.values()))}
    lost = [f"{name} in {file}" for name, file in places.items() if name not in shards[file]]
    if lost:
        raise UserError(f"{index} names tensors that are not there: {', '.join(lost[:5])}; download the folder again")
    return {name: tensor for shard in shards.values() for name, tensor in shard.items()}
