"""Time: one network a range of t (PDM section 4.1, "chain splitting")."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from pdm_jax.errors import UserError
from pdm_jax.types import Array, Cond, Denoiser, Prediction, Step


def split(parts: Sequence[Denoiser], boundaries: Sequence[int]) -> Denoiser:
    """A denoiser that asks a different part in each range of t.

    With a scalar t (sampling) only the part that is asked is computed; with t [B] all are, and each sample takes
    its own.

    Args:
      parts: from the noisiest range to the least noisy.
      boundaries: descending, one fewer than parts; part i serves t >= boundaries[i], below boundaries[i - 1].

    Raises:
      UserError: boundaries that do not fit, or, when called, parts with different outputs.
    """
    parts, boundaries = tuple(parts), tuple(boundaries)
    if len(boundaries) != len(parts) - 1:
        raise UserError(f"{len(parts)} parts need {len(parts) - 1} boundaries, got {len(boundaries)}")
    if list(boundaries) != sorted(set(boundaries), reverse=True):
        raise UserError(f"the boundaries of a split are {boundaries}; expected descending steps, each once")

    def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
        number = sum((step.t < boundary).astype(jnp.int32) for boundary in boundaries) + jnp.zeros_like(step.t)
        checked = _same_output(parts)
        if jnp.ndim(step.t) == 0:
            return jax.lax.switch(number, checked, z_t, step, cond)
        predictions = [part(z_t, step, cond) for part in checked]
        return jax.tree.map(lambda *xs: _select(number, xs), *predictions)

    return denoise


def _same_output(parts: Sequence[Denoiser]) -> list[Denoiser]:
    """The parts, each compared with the first that was traced."""
    outputs = []

    def check(i: int, part: Denoiser) -> Denoiser:
        def denoise(z_t: Array, step: Step, cond: Cond) -> Prediction:
            prediction = part(z_t, step, cond)
            outputs.append((i, _describe(prediction)))
            (first, expected), (_, got) = outputs[0], outputs[-1]
            if got != expected:
                raise UserError(
                    f"part {i} of a split puts out {got}, part {first} {expected}; "
                    "give both the same outputs, or neither a variance"
                )
            return prediction

        return denoise

    return [check(i, part) for i, part in enumerate(parts)]


def _describe(prediction: Prediction) -> str:
    leaves = {"x0": prediction.x0, "eps": prediction.eps, "variance": prediction.variance}
    return ", ".join(f"{name} {leaf.dtype}{leaf.shape}" for name, leaf in leaves.items() if leaf is not None)


def _select(number: Array, choices: Sequence[Array]) -> Array:
    """Sample b (B, ...) of choices[number[b]]."""
    result = choices[0]
    for i, choice in enumerate(choices[1:], start=1):
        result = jnp.where((number == i).reshape(-1, *[1] * (choice.ndim - 1)), choice, result)
    return result
