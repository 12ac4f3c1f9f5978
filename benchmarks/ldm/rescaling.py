"""What the scale of latents does to samples larger than the trained ones (figure 15, appendix D.1)."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from paper.pictures import sheet
from report import Row

from ldm.lab import SEED, Lab
from ldm.scales import diffusion_config
from pdm_jax import rng
from pdm_jax.systems.latent import SCALE

_FACTOR = 4
_SHOWN = 4  # samples in the picture
_SCALES = {"as they are": 1.0, "rescaled": None}  # config.latent.scale


def run(lab: Lab, out: Path) -> list[Row]:
    """LDM-4 on KL latents as they are and divided by their deviation, sampled at twice the trained size.

    `signal until` is the first step t at which the noise is as strong as the latents, Var(z) SNR(t) < 1: the larger
    it is, the earlier in sampling details are settled. `large` is the Fréchet distance of trained-size quarters of
    large samples, `trained size` that of as many ordinary samples.
    """
    scale, rows, drawn = lab.scale, [], {}
    for name, latent_scale in _SCALES.items():
        config = diffusion_config(scale, _FACTOR, latent_scale=latent_scale)
        run_name = f"ldm_f{_FACTOR}" if latent_scale is None else f"ldm_f{_FACTOR}_unscaled"
        model = lab.latent_model(run_name, config, _FACTOR)
        keys = rng.sample_keys(jax.random.key(SEED), np.arange(len(lab.held_out)))
        variance = float(np.var(model.system.space.start(model.params, {"image": lab.held_out}, keys)))
        large, _ = lab.draw(model, scale.sampling_steps[-1], scale.num_samples // 4, size=2 * scale.image_size)
        ordinary, _ = lab.draw(model, scale.sampling_steps[-1], scale.num_samples)
        rows.append(
            {
                "latents": name,
                "scale": float(model.params[SCALE]),
                "variance": variance,
                "signal until": signal_until(variance, model.system.process.snr),
                "trained size": lab.distance(ordinary),
                "large": lab.distance(quarters(large)),
            }
        )
        drawn[name] = large[:_SHOWN] / 127.5 - 1
    sheet(out / "rescaling.png", f"LDM-4 at twice the trained size ({lab.title})", drawn, [""] * _SHOWN)
    return rows


def signal_until(variance: float, snr: np.ndarray) -> int:
    """The first step t at which latents of this variance are no stronger than the noise; T if none."""
    weak = variance * snr < 1
    return int(np.argmax(weak)) if weak.any() else len(snr)


def quarters(images: np.ndarray) -> np.ndarray:
    """The four quarters of images (N, 2h, 2w, C), (4 N, h, w, C)."""
    count, height, width, channels = images.shape
    split = images.reshape(count, 2, height // 2, 2, width // 2, channels).swapaxes(2, 3)
    return split.reshape(-1, height // 2, width // 2, channels)
