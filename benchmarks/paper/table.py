"""Table 1: quality and speed of P = 2, 4 and 8."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from report import Row
from tqdm import tqdm

from paper.lab import SEED, Lab, Trained
from paper.pictures import chart, sheet
from pdm_jax.config import SampleConfig
from pdm_jax.data import ArrayDataset
from pdm_jax.evaluation.extraction import Extractor
from pdm_jax.evaluation.frechet import distance_to
from pdm_jax.evaluation.local_features import train_local
from pdm_jax.evaluation.statistics import Statistics
from pdm_jax.evaluation.summary import Wanted, summarize
from pdm_jax.networks import count_params
from pdm_jax.pipelines import generate, make_generate

_SAMPLING = SampleConfig(sampler="ddim", steps="50", clip="static")
_SHOWN = 8  # samples in the picture
_BATCHES = 8  # that samples are made in; speed is that of the median of all but the first, which compiles
_FEATURES = 64  # images that go through the feature network at a time


def run(lab: Lab, out: Path) -> list[Row]:
    """Fréchet distance to the training set and images/s of P = 2, 4, 8 (table 1; pictures as in appendix E).

    Features are of a network trained on the data themselves, so that distances compare within this table only.
    `held-out images` are real, as many as the samples: the least that can be reached. `samples/s` is of 50 DDIM
    steps, without compilation; networks have about the same number of parameters and of training steps
    (the paper: of training time).
    """
    network = train_local(ArrayDataset(lab.images, lab.labels, _FEATURES, SEED), SEED, lambda i: tqdm(i, "features"))
    extractor = Extractor(network, _FEATURES)
    distance = distance_to(_statistics(extractor, lab.images))
    real = {"network": "held-out images", "distance": distance(_statistics(extractor, lab.held_out))}
    rows = [real | dict.fromkeys(("samples/s", "trained images/s", "parameters"))]
    drawn = {}
    for patch_size in (2, 4, 8):
        trained = lab.network(patch_size)
        samples, speed = _draw(lab, trained)
        drawn[f"P = {patch_size}"] = samples[:_SHOWN] / 127.5 - 1
        rows.append(
            {
                "network": f"P = {patch_size}",
                "distance": distance(_statistics(extractor, samples)),
                "samples/s": speed,
                "trained images/s": trained.images_per_s,
                "parameters": count_params(trained.system.shapes),
            }
        )
    with chart(out / "table.png", f"Quality against speed ({lab.title})", "samples/s", "Fréchet distance") as axes:
        axes.axhline(real["distance"], color="black", linewidth=0.8, label="held-out images")
        for row in rows[1:]:
            axes.plot(row["samples/s"], row["distance"], "o", label=row["network"])
        axes.set_ylim(bottom=0)
    title = f"Samples after {lab.scale.num_steps} steps ({lab.title})"
    sheet(out / "table_samples.png", title, drawn, [""] * _SHOWN)
    return rows


def _draw(lab: Lab, trained: Trained) -> tuple[np.ndarray, float]:
    """As many samples as there are held-out images, uint8 (M, S, S, 3), and samples/s."""
    run, num = make_generate(trained.system, _SAMPLING, lab.mesh), lab.scale.num_held_out
    batch_size = num // _BATCHES
    samples, done = [], []
    for batch in generate(run, trained.params, SEED, num, {}, lab.mesh, batch_size=batch_size):
        samples.append(batch)
        done.append(time.perf_counter())
    return np.concatenate(samples), batch_size / float(np.median(np.diff(done)))


def _statistics(extractor: Extractor, images: np.ndarray) -> Statistics:
    output = next(iter(extractor.network.outputs))
    batches = ArrayDataset(images, None, min(extractor.batch_size, len(images)), SEED).once()
    return summarize(extractor, batches, len(images), Wanted(statistics=(output,))).statistics(output)
