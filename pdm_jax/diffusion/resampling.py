"""Resampling jumps (RePaint, Lugmayr et al. 2022, section 4.2): going back to more noise, and down again.

What is generated beside a known region sees it only through the steps that are left. Jumps repeat steps, so that both
sides grow together. They are rows of the sampler's table: the scan stays one scan, with one call of the denoiser a row.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from pdm_jax.diffusion.process import Process
from pdm_jax.diffusion.samplers import OneStep, Row, Sampler
from pdm_jax.errors import UserError
from pdm_jax.types import Array, Prediction


@dataclasses.dataclass(frozen=True)
class Resampled(OneStep):
    """A sampler that goes back, see `resampled`."""

    sampler: Sampler
    jump_length: int
    num_jumps: int

    @property
    def is_noisy(self) -> bool:
        """Whether the sampler's own steps use noise; going back always does."""
        return self.sampler.is_noisy

    def table(self, process: Process, timesteps: np.ndarray, last_alpha: str = "one") -> dict[str, np.ndarray]:
        """The sampler's rows in the order of the walk, with two more columns.

        Before a row's step the state becomes back_signal * z + back_sigma * noise, which is q(z_t | z_s) of DDPM, with
        s where the row before ended; 1 and 0 where nothing is to be done.
        """
        table = self.sampler.table(process, timesteps, last_alpha)
        rows, starts = _walk(len(table["t"]), self.jump_length, self.num_jumps)
        alpha_bar = process.alpha_bar[table["t"]]
        ratio = np.where(starts < 0, 1, alpha_bar[rows] / alpha_bar[starts])
        columns = {name: column[rows] for name, column in table.items()}
        back = {"back_signal": np.sqrt(ratio), "back_sigma": np.sqrt(1 - ratio)}
        return columns | {name: column.astype(np.float32) for name, column in back.items()}

    def step(self, z: Array, prediction: Prediction, row: Row, noise: Array | None) -> Array:
        """The sampler's own step."""
        return self.sampler.step(z, prediction, row, noise)


def resampled(sampler: Sampler, jump_length: int, num_jumps: int) -> Sampler:
    """A sampler that repeats its steps in sections.

    Args:
      sampler: from the most noise to the least: `ancestral` or `ddim`.
      jump_length: steps in a section, at least 1; sections are counted from the last step.
      num_jumps: how often each is repeated; 0 is the sampler itself. RePaint's r is one more.

    Returns:
      A sampler for `sample`, which needs keys then. N steps become
      N + num_jumps * jump_length * floor((N - 1) / jump_length).

    Raises:
      UserError: a sampler with a memory, numbers out of range, or, when the table is made, a section that is longer
        than the steps allow.
    """
    if jump_length < 1 or num_jumps < 0:
        raise UserError(f"jump length {jump_length} and {num_jumps} jumps; expected at least 1 and at least 0")
    if num_jumps and not isinstance(sampler, OneStep):
        raise UserError("plms follows one way down and cannot jump back; use ddim or ancestral, or 0 jumps")
    return Resampled(sampler, jump_length, num_jumps) if num_jumps else sampler


def _walk(num_steps: int, jump_length: int, num_jumps: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the order in which they are run, and beside each the row that it goes back from, or -1."""
    if jump_length >= num_steps:
        raise UserError(f"jump length {jump_length} needs more than {jump_length} steps; this sampler has {num_steps}")
    rows, starts = [], []
    for row in range(num_steps):
        if row >= jump_length and (num_steps - 1 - row) % jump_length == 0:
            again = range(row - jump_length, row)
            rows += num_jumps * list(again)
            starts += num_jumps * [row, *[-1] * (jump_length - 1)]
        rows.append(row)
        starts.append(-1)
    return np.array(rows), np.array(starts)
