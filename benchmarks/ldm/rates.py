"""How many bits of an image the chain of a pixel model spends on what (figure 2)."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from paper.pictures import chart
from report import Row

from ldm.lab import SEED, Lab
from ldm.quality import latent_diffusion
from ldm.scales import FACTORS
from pdm_jax import rng
from pdm_jax.denoisers.thresholds import clipped
from pdm_jax.diffusion import timesteps
from pdm_jax.diffusion.likelihood import Bound, bits_per_dim
from pdm_jax.ops.images import to_float
from pdm_jax.types import Cond

_STEPS = 50  # of the chain
_IMAGES = 32  # held out


def run(lab: Lab, out: Path) -> list[Row]:
    """Rate and distortion of LDM-1 along its chain, and how many bits lie beyond what each first stage keeps.

    Distortion is the root mean squared error of x0_hat, clipped to [-1, 1], of 255. `bits beyond` is the part of all
    bits that the chain spends after x0_hat is as near to the image as the first stage's reconstruction: what diffusion
    of latents need not model.
    """
    images = lab.held_out[:_IMAGES]
    rate, distortion = curve(_bound(lab, images))
    rows = [_row("chain", float(rate[-1]), float(distortion[-1]), None)]
    limits = {f: rmse(lab.reconstructed(f, images), images) for f in FACTORS[1:]}
    for factor, limit in limits.items():
        rows.append(_row(f"first stage, f = {factor}", None, limit, bits_beyond(rate, distortion, limit)))
    with chart(out / "rates.png", f"LDM-1 along its chain ({lab.title})", "bits a dimension", "RMSE of x0") as axes:
        axes.plot(rate, distortion, ".-", label="chain")
        for i, (factor, limit) in enumerate(limits.items()):
            axes.axhline(limit, color=f"C{i + 1}", linestyle="--", label=f"first stage, f = {factor}")
    return rows


def curve(bound: Bound) -> tuple[np.ndarray, np.ndarray]:
    """Rates [N + 1] in bits a dimension, and distortions [N + 1] of 255 of x0_hat after that many; means over images.

    Before the first of N steps only the prior's bits are spent; after the last nothing is off: the code is lossless.
    """
    prior = np.asarray(bound.prior).mean()
    rate = prior + np.append(0, np.cumsum(np.asarray(bound.terms).mean(0)))
    return rate, np.append(127.5 * np.sqrt(np.asarray(bound.x0_mse).mean(0)), 0)


def bits_beyond(rate: np.ndarray, distortion: np.ndarray, limit: float) -> float:
    """The part of all bits that is spent after x0_hat is first no farther off than `limit`; in the end it is exact."""
    return float(1 - rate[np.argmax(distortion <= limit)] / rate[-1])


def rmse(images: np.ndarray, others: np.ndarray) -> float:
    """Of uint8 images."""
    return float(np.sqrt(np.square(images.astype(np.float64) - others).mean()))


def _row(what: str, rate: float | None, distortion: float, beyond: float | None) -> Row:
    return {"what": what, "bits a dimension": rate, "distortion": distortion, "bits beyond": beyond}


def _bound(lab: Lab, images: np.ndarray) -> Bound:
    model = latent_diffusion(lab, 1)
    process = model.system.process
    visited = timesteps(str(_STEPS), process.num_steps)

    def bits(params, x0, keys) -> Bound:
        denoiser = clipped(model.system.denoiser(params), process, "static")
        return bits_per_dim(denoiser, process, visited, x0, keys, Cond(), variance="small")

    keys = rng.sample_keys(jax.random.key(SEED), np.arange(len(images)))
    return jax.jit(bits)(model.params, to_float(images), keys)
