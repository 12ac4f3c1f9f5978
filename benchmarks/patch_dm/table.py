"""Table 4 and figure 2a: how good the samples of each row are, and how visible the borders of their patches."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from paper.pictures import sheet
from report import Row
from tqdm import tqdm

from patch_dm.training import Photographs, make_drawer, make_trainer
from patch_dm.variants import ROWS, Scale, make_config, sampled, system_of
from pdm_jax.data import ArrayDataset
from pdm_jax.evaluation import local_features
from pdm_jax.evaluation.extraction import Extractor
from pdm_jax.evaluation.frechet import distance_to
from pdm_jax.evaluation.seams import phase_differences, seam_score
from pdm_jax.evaluation.statistics import Statistics
from pdm_jax.evaluation.summary import Wanted, summarize

_SHOWN = 6  # samples in the picture
_FEATURES = 64  # images that go through the feature network at a time


def run(photographs: Photographs, scale: Scale, names: Sequence[str], out: Path) -> list[Row]:
    """Fréchet distance in local features and seams of these rows, over seeds of networks and samples (table 4).

    Features are of a network trained on the photographs, so that distances compare within this table only.
    `held-out photographs` are real and as many as the samples: the least that can be reached. Networks have equal
    steps, batches and sizes; three rows are sampled from one network of patches that were cut anywhere.
    """
    distance = _distance(photographs.train)
    found = {row: [] for row in names}
    drawn = {"photographs": photographs.held_out}
    tools = functools.cache(lambda network: _trainer(network, photographs, scale))
    draw = functools.cache(lambda row: _drawer(row, scale))
    for seed in range(scale.num_seeds):
        weights = functools.cache(lambda network, seed=seed: tools(network)(seed))
        for row in names:
            samples = draw(row)(weights(ROWS[row].network), photographs.held_out, seed)
            drawn.setdefault(row, samples)
            found[row].append(_measured(samples, distance, scale.patch_size))
            print(f"seed {seed}, {row}: " + ", ".join(f"{k} {v:.4g}" for k, v in found[row][-1].items()))
    real = [_measured(photographs.held_out, distance, scale.patch_size)]
    _picture(drawn, f"After {scale.num_steps} steps ({photographs.name})", out / "table_samples.png")
    return [_row("held-out photographs", real), *(_row(row, values) for row, values in found.items())]


def order(rows: Sequence[Row], measure: str) -> str:
    """The rows by the medians of a measure, least first: `<` between those whose seeds do not overlap, else `~`."""
    ranked = sorted(rows, key=lambda row: row[measure]["median"])
    said = ranked[0]["row"]
    for before, after in itertools.pairwise(ranked):
        said += (" < " if before[measure]["high"] < after[measure]["low"] else " ~ ") + after["row"]
    return said


def _row(name: str, values: Sequence[Mapping[str, float]]) -> Row:
    spreads = {measure: _range([value[measure] for value in values]) for measure in values[0]}
    return {"row": name, **spreads, "FID in the paper": ROWS[name].paper if name in ROWS else None}


def _range(values: Sequence[float]) -> dict[str, float]:
    """As `report.spread`, but with the least and the largest: seeds are few."""
    return {"median": float(np.median(values)), "low": min(values), "high": max(values), "repeats": len(values)}


def _measured(samples: np.ndarray, distance: Callable[[np.ndarray], float], patch_size: int) -> dict[str, float]:
    seams = seam_score(phase_differences(samples, patch_size))
    return {"distance": distance(samples), "seams": seams.ratio, "seams z": seams.z}


def _trainer(network: str, photographs: Photographs, scale: Scale) -> Callable:
    config = make_config(network, scale)
    return make_trainer(system_of(config, network), config, photographs.train, scale.num_steps)


def _drawer(row: str, scale: Scale) -> Callable:
    network = ROWS[row].network
    config = make_config(network, scale)
    return make_drawer(sampled(system_of(config, network), config, row), scale.sampling_steps)


def _distance(images: np.ndarray) -> Callable[[np.ndarray], float]:
    """The Fréchet distance of samples to these images."""
    network = local_features.train_local(ArrayDataset(images, None, _FEATURES, 0), 0, lambda i: tqdm(i, "features"))
    extractor, output = Extractor(network, _FEATURES), next(iter(network.outputs))

    def statistics(images: np.ndarray) -> Statistics:
        batches = ArrayDataset(images, None, min(_FEATURES, len(images)), 0).once()
        return summarize(extractor, batches, len(images), Wanted(statistics=(output,))).statistics(output)

    to_images = distance_to(statistics(images))
    return lambda samples: to_images(statistics(samples))


def _picture(drawn: Mapping[str, np.ndarray], title: str, path: Path) -> None:
    sheet(path, title, {row: images[:_SHOWN] / 127.5 - 1 for row, images in drawn.items()}, [""] * _SHOWN)
