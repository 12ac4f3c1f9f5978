"""A bar of sampling steps, for commands that make few images in a long time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import numpy as np
from tqdm import tqdm

Batches = Callable[[Callable[[], object] | None], Iterator[np.ndarray]]


def collected(batches: Batches, num: int, num_steps: int) -> np.ndarray:
    """The images (num, H, W, C) of all batches, with a bar that goes on after each step.

    On accelerators it goes on after each batch: a program that calls back could not be kept for the next time.

    Args:
      batches: given what is to be called after each step, or None, yields images (b, H, W, C).
      num_steps: of all batches together.
    """
    images, done = [], 0
    with tqdm(total=num_steps, unit="step", dynamic_ncols=True, disable=jax.process_index() != 0) as bar:
        for batch in batches(bar.update if jax.default_backend() == "cpu" else None):
            jax.effects_barrier()  # the last steps are shown
            images.append(batch)
            done += len(batch)
            bar.update(num_steps * done // num - bar.n)
    return np.concatenate(images)
