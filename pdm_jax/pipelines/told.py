"""What models that take captions, layouts, maps, small images or holes are told of the images they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pdm_jax.checkpoints import open_workdir
from pdm_jax.config import Config
from pdm_jax.data import Dataset
from pdm_jax.errors import UserError
from pdm_jax.systems import System

TOKENIZER = "tokenizer.json"  # in the workdir of a model that reads text
_OTHERWISE = ("label", "code")  # told by numbers of classes, and by a prior or a table


def of_data(system: System) -> list[str]:
    """The names of what the system is told that records of data hold."""
    return [name for name in system.told if name not in _OTHERWISE]


def told_as(dataset: Dataset, names: Sequence[str], num: int) -> dict[str, np.ndarray]:
    """What these fields are in the first records of a data set, (num, ...) each; they are gone round if too few."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    count, batches = 0, dataset.once()
    try:
        while count < num and (batch := next(batches, None)) is not None:
            count += len(batch["index"])
            for name in names:
                found[name].append(batch[name])
    finally:
        batches.close()
    rows = np.arange(num) % count
    return {name: np.concatenate(parts)[rows] for name, parts in found.items()}


def with_kept_tokenizer(config: Config, workdir: str | Path) -> Config:
    """The config with the tokeniser that lies in its workdir, wherever that is now."""
    kept = open_workdir(workdir) / TOKENIZER
    if "text" not in config.condition.kinds or not kept.exists():
        return config
    return dataclasses.replace(config, condition=dataclasses.replace(config.condition, tokenizer=str(kept)))


def tokens_of(prompts: Sequence[str], config: Config, workdir: str | Path, num: int) -> np.ndarray:
    """The tokens (num, L) of prompts, which are gone round.

    Raises:
      UserError: the model reads no text, or its tokeniser is gone.
    """
    from pdm_jax.data.tokenizer import load_tokenizer

    if "text" not in config.condition.kinds:
        raise UserError(f"--prompt is for models that read text; {workdir} holds one that does not")
    text, condition = config.condition.networks["text"], with_kept_tokenizer(config, workdir).condition
    tokenizer = load_tokenizer(condition.tokenizer, text["max_length"], text["vocab_size"])
    return np.stack([tokenizer(prompts[i % len(prompts)]) for i in range(num)])
