"""The numbers themselves, under the names that results give them."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
from jax.sharding import Mesh

from pdm_jax.evaluation import uncertainty
from pdm_jax.evaluation.demand import MANIFOLD, Demand
from pdm_jax.evaluation.extraction import Extractor
from pdm_jax.evaluation.frechet import frechet_distance
from pdm_jax.evaluation.image_sets import Batch
from pdm_jax.evaluation.inception_score import inception_score
from pdm_jax.evaluation.kernel_distance import kernel_distance
from pdm_jax.evaluation.manifold import precision_recall
from pdm_jax.evaluation.networks import FeatureNetwork, PerceptualNetwork
from pdm_jax.evaluation.pairs import WINDOW, psnr, ssim
from pdm_jax.evaluation.reference import Reference
from pdm_jax.evaluation.statistics import Moments
from pdm_jax.evaluation.summary import Summary, gather_rows
from pdm_jax.types import Array, Params

_KID_SUBSET = 1000  # images, where there are as many


def score_features(
    demand: Demand, network: FeatureNetwork, images: Summary, reference: Reference | None, mesh: Mesh
) -> dict[str, float]:
    """All metrics of distributions. Names say when features are not Inception's: `fid_local`."""
    found: dict[str, float] = {}
    for name, output in demand.outputs(network).items():
        found |= _frechet(demand, name, images, output, reference.moments[output])
    if "is" in demand.of_features:
        score = inception_score(images.splits)
        found |= {"is": score.mean, "is_std": score.std}
    if "kid" in demand.of_features:
        size = min(_KID_SUBSET, images.n, len(reference.features))
        distance = kernel_distance(images.features, reference.features, subset_size=size)
        found |= {"kid": distance.mean, "kid_std": distance.std}
    if names := [name for name in MANIFOLD if name in demand.of_features]:
        manifold = precision_recall(images.features, reference.features, mesh=mesh, k=demand.neighbours)
        found |= {name: getattr(manifold, name) for name in names}
    found = {_asked_name(demand, name): value for name, value in found.items()}
    suffix = "" if network.name == "inception" else f"_{network.name}"
    return {f"{name}{suffix}": value for name, value in found.items()}


def pair_network(demand: Demand, perceptual: PerceptualNetwork | None) -> PerceptualNetwork:
    """All metrics of pairs that are asked for, as one network whose `apply` gives distances (B,) by name."""
    pixelwise = {
        "psnr": psnr,
        "ssim": ssim,
        "psnr_y": functools.partial(psnr, luma=True),
        "ssim_y": functools.partial(ssim, luma=True),
    }

    def apply(params: Params, a: Array, b: Array) -> dict[str, Array]:
        values = {name: pixelwise[name](a, b) for name in demand.of_pairs if name in pixelwise}
        return values if perceptual is None else values | {perceptual.name: perceptual.apply(params, a, b)}

    least = WINDOW if {"ssim", "ssim_y"} & set(demand.of_pairs) else 1
    if perceptual is None:
        return PerceptualNetwork("SSIM" if least > 1 else "PSNR", {}, apply, least)
    return PerceptualNetwork(perceptual.name, perceptual.params, apply, max(least, perceptual.least_size))


def score_pairs(extractor: Extractor, batches: Iterable[Batch], total: int) -> dict[str, float]:
    """All metrics of pairs: means over the images of all hosts.

    Args:
      extractor: of a `pair_network`.
      batches: this host's, from `image_sets.pairs`.
      total: pairs on all hosts.
    """
    indices, rows, names = [], [], []

    def images():
        for batch in batches:
            indices.append(batch["index"])
            yield batch["image"], batch["original"]

    for values in extractor(images()):
        names = sorted(values)
        rows.append(np.stack([values[name] for name in names], axis=1))
    means = gather_rows(list(zip(indices, rows, strict=True)), total, len(names)).mean(0, dtype=np.float64)
    return dict(zip(names, map(float, means), strict=True))


def _asked_name(demand: Demand, name: str) -> str:
    """`rfid_low` for `fid_low` where the metric of reconstructions was asked for."""
    return f"r{name}" if f"r{name.partition('_')[0]}" in demand.metrics else name


def _frechet(demand: Demand, name: str, images: Summary, output: str, moments: Moments) -> dict[str, float]:
    groups = images.groups[output]
    found = {name: frechet_distance(images.statistics(output), moments)}
    if demand.confidence:
        interval = uncertainty.confidence(groups, moments)
        found |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    if demand.extrapolate:
        found[f"{name}_infinity"] = uncertainty.extrapolate(groups, moments).value
    return found
