"""From flags to what models of captions, layouts, maps, small images or holes are told."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection

import numpy as np

from pdm_jax.config import Config
from pdm_jax.data import make_dataset
from pdm_jax.pipelines.told import of_data, tokens_of, told_as, with_kept_tokenizer
from pdm_jax.systems import System
from pdm_jax.systems.conditions import task_inputs


def conditions(
    args: argparse.Namespace, config: Config, system: System, num: int, given: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """What `config.condition` is told of `num` images: prompts, and the rest from `--told` or the run's own data.

    Args:
      given: names that are told in another way.
    """
    names, found = [name for name in of_data(system) if name not in given], {}
    if args.prompt:
        found["tokens"] = tokens_of(args.prompt, config, args.workdir, num)
    if rest := [name for name in names if name not in found]:
        source = args.told or config.data.source
        data = dataclasses.replace(config.data, source=source, crop=config.data.fixed_crop, flip=False, batch_size=1)
        dataset = make_dataset(data, args.seed, task_inputs(with_kept_tokenizer(config, args.workdir)))
        found |= told_as(dataset, rest, num)
    return found
