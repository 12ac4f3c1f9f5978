"""What models that take captions, layouts, maps, small images or holes are told of the images they make."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pdm_jax.checkpoints import open_workdir
from pdm_jax.config import Config
from pdm_jax.data import Dataset
from pdm_jax.errors import UserError
from pdm_jax.systems import System

if TYPE_CHECKING:
    from pdm_jax.data.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

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


def open_tokenizer(config: Config) -> Tokenizer:
    """The tokeniser of a config's captions.

    Raises:
      UserError: none is given, it cannot be read, or it has another number of tokens than the network.
    """
    from pdm_jax.data.tokenizer import load_tokenizer

    settings = config.condition.networks["text"]
    if config.condition.tokenizer is None:
        raise UserError(
            "config.condition.tokenizer is not set; give the tokenizer.json of the captions that the model reads, for "
            "released models that of bert-base-uncased"
        )
    return load_tokenizer(config.condition.tokenizer, settings["max_length"], settings["vocab_size"])


def tokens_of(prompts: Sequence[str], config: Config, workdir: str | Path, num: int) -> np.ndarray:
    """The tokens (num, L) of prompts, which are gone round; says which of them are longer than the model reads.

    Raises:
      UserError: the model reads no text, or its tokeniser is gone.
    """
    if "text" not in config.condition.kinds:
        raise UserError(f"--prompt is for models that read text; {workdir} holds one that does not")
    tokenizer = open_tokenizer(with_kept_tokenizer(config, workdir))
    for prompt in prompts:
        if tokenizer.cuts(prompt):
            logger.warning("the model reads %d tokens; what lies beyond is cut: %s", tokenizer.max_length, prompt)
    return np.stack([tokenizer(prompts[i % len(prompts)]) for i in range(num)])
