"""The training images that are nearest to samples, in a feature space (figures 32 to 34)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from paper.pictures import sheet
from report import Row

from ldm.lab import Lab
from ldm.quality import latent_diffusion

_FACTOR = 4
_SHOWN, _NEAREST = 6, 8  # samples in the picture, and neighbours of each


def run(lab: Lab, out: Path) -> list[Row]:
    """Distances of LDM-4's samples and of held-out images to their nearest training images in local features.

    A model that repeats its training set has samples much nearer to it than new images are. `nearest, median` is of
    all, `nearest, least` of the nearest of all.
    """
    samples, _ = lab.draw(latent_diffusion(lab, _FACTOR), lab.scale.sampling_steps[-1], lab.scale.num_samples)
    known = lab.features(lab.images)
    rows, found = [], {}
    for name, images in (("samples", samples), ("held-out images", lab.held_out)):
        indices, distances = nearest(lab.features(images), known, min(_NEAREST, len(known)))
        first = distances[:, 0]
        rows.append({"images": name, "nearest, median": float(np.median(first)), "nearest, least": float(first.min())})
        found[name] = indices
    columns = ["sample", *(str(i + 1) for i in range(found["samples"].shape[1]))]
    lines = {
        f"{i + 1}": np.concatenate([samples[i : i + 1], lab.images[found["samples"][i]]]) / 127.5 - 1
        for i in range(min(_SHOWN, len(samples)))
    }
    sheet(out / "neighbours.png", f"Nearest training images of LDM-4's samples ({lab.title})", lines, columns)
    return rows


def nearest(features: np.ndarray, known: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `known` (N, D) nearest to each of `features` (M, D), and how far: both (M, count), nearest first."""
    squares = (features**2).sum(1)[:, None] + (known**2).sum(1)[None] - 2 * features @ known.T
    indices = np.argsort(squares, axis=1, kind="stable")[:, :count]
    return indices, np.linalg.norm(features[:, None] - known[indices], axis=2)
