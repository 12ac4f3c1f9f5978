"""What denoisers, samplers and losses pass to each other: `Step`, `Cond`, `Prediction`, `Denoiser`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

Array = jax.Array
Params = Any  # a nested dict of arrays


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prediction:
    """A denoiser's belief about z_t, converted from whatever its network puts out.

    `x0` and `eps` are float32 and consistent: z_t = signal_t * x0 + sigma_t * eps.
    """

    x0: Array  # (B, H, W, C) the clean image
    eps: Array  # (B, H, W, C) the noise
    variance: Array | None = None  # (B, H, W, C) in [0, 1]: log var = v log(beta) + (1 - v) log(beta_tilde)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Step:
    """What a denoiser may know of the moment. `t` is [B] in training and a scalar in sampling.

    All but `t` are set by the samplers only.
    """

    t: Array  # int32, scalar or [B], in [0, T); 0 is the least noise
    t_next: Array | None = None  # int32 scalar: where this step goes, -1 after the last
    index: Array | None = None  # int32 scalar: number of the step, from 0
    is_last: Array | None = None  # bool scalar
    key: Array | None = None  # one PRNG key of this step, for random wrappers (never for the sampler's noise)
    previous: Prediction | None = None  # what the denoiser said one step ago (zeros at first)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cond:
    """What a sample is conditioned on; a field that is None is not used."""

    label: Array | None = None  # [B] int32 class, num_classes is the null label
    code: Array | None = None  # (B, D) semantic code; zeros are none
    position: Array | None = None  # (B, gh, gw, 3) of each patch: row, column in patch units, 1 (or 0: not told)
    context: Array | None = None  # (B, K, D) tokens to attend to
    concat: Array | None = None  # (B, H, W, C') joined to z_t along channels, never dropped
    mask: Array | None = None  # (B, H, W, 1) in {0, 1}: 1 where the image is known


Denoiser = Callable[[Array, Step, Cond], Prediction]  # (z_t (B, H, W, C), step, cond) -> Prediction
