"""Figure 1b: one noisy image has many possible reconstructions, and x* is their mean."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from report import Row

from paper.lab import SEED, Lab, Trained, noisy
from paper.optimal import effective_number, fine_detail, optimal_x0, posterior
from paper.pictures import sheet
from pdm_jax import rng
from pdm_jax.diffusion import ancestral, sample
from pdm_jax.types import Array, Cond

_DRAWS = 5
_POSTERIOR = 50  # images that the posterior is to hold: with few, all draws look alike
_STRIDE = 20  # steps between the t that are tried and sampled


def run(lab: Lab, out: Path) -> list[Row]:
    """Draws from q(x | z_t): of the training set in closed form, and of a P = 2 network by its sampler (figure 1b).

    t is the first multiple of 20 where the posterior of the set holds 50 images. `fine detail` is the power of waves
    shorter than 8 pixels: the mean has less than the draws. The mean of the network's draws is its x0_hat.
    """
    network, images = lab.network(2), np.asarray(lab.images, np.float64) / 127.5 - 1
    t, z_t, weights = _first_uncertain(lab, network, images)
    chosen = np.random.default_rng(SEED).choice(len(images), _DRAWS, p=weights[0])
    draws = {"training set": images[chosen], "network": np.asarray(_samples(network, z_t, t))}
    means = {"training set": optimal_x0(weights, images)[0], "network": np.asarray(network.x0(z_t, t))[0]}
    start = (np.asarray(z_t)[0], images[0])
    sheet(
        out / "reconstructions.png",
        f"Draws from q(x | z_t) at t = {t} ({lab.title})",
        {name: [*start, *draws[name], means[name]] for name in draws},
        ["z_t", "x0", *[f"draw {i + 1}" for i in range(_DRAWS)], "mean"],
    )
    return [
        {
            "reconstructions": name,
            "t": t,
            "images in the posterior": float(effective_number(weights)[0]) if name == "training set" else None,
            "fine detail of draws": fine_detail(draws[name]),
            "fine detail of the mean": fine_detail(means[name][None]),
        }
        for name in draws
    ]


def _first_uncertain(lab: Lab, network: Trained, images: np.ndarray) -> tuple[int, Array, np.ndarray]:
    """t, z_t (1, S, S, 3) of the first training image, and the weights (1, N) of its posterior."""
    for t in range(0, network.system.process.num_steps, _STRIDE):
        _, z_t = noisy(network.system, lab.images[:1], t)
        weights = posterior(z_t, t, images, network.system.process)
        if effective_number(weights)[0] >= _POSTERIOR:
            break
    return t, z_t, weights


def _samples(network: Trained, z_t: Array, t: int) -> Array:
    """Ancestral sampling from z_t (1, S, S, 3) at t down to an image, `_DRAWS` times."""
    keys = rng.sample_keys(jax.random.key(SEED), np.arange(_DRAWS, dtype=np.int32))
    system, timesteps = network.system, np.arange(0, t + 1, _STRIDE)

    @jax.jit
    def draw(params, z):
        return sample(system.denoiser(params), system.process, ancestral("small"), timesteps, z, keys, Cond()).final

    return draw(network.params, jnp.repeat(z_t, _DRAWS, axis=0))
