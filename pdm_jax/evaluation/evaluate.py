"""One evaluation from images to numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError
from pdm_jax.evaluation.clip_score import ClipScorer, clip_score
from pdm_jax.evaluation.demand import Demand
from pdm_jax.evaluation.extraction import Extractor, consume
from pdm_jax.evaluation.image_sets import ImageSet, check_pairs, pairs
from pdm_jax.evaluation.judges import Judges
from pdm_jax.evaluation.networks import FeatureNetwork
from pdm_jax.evaluation.reference import Reference, holds_statistics, reference_of_file, reference_of_images
from pdm_jax.evaluation.scores import pair_network, score_features, score_pairs
from pdm_jax.evaluation.seams import phase_differences, seam_score
from pdm_jax.evaluation.summary import gather_rows, summarize
from pdm_jax.parallel import make_mesh

# Told what is counted and how much there is of it on this host; gives a function that is told of progress.
Bar = Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]


def evaluate(
    demand: Demand,
    judges: Judges,
    open_images: Callable[[], ImageSet],
    reference: ImageSet | None,
    *,
    statistics: str | None = None,
    prompts: Sequence[str] | None = None,
    batch_size: int = 64,
    cache: Path | None = None,
    bar: Bar,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Scores a set of images; every host calls it and gets the same.

    Args:
      demand: the metrics.
      judges: the networks they need.
      open_images: opens the set that is judged, and may make it first; called once the reference is known to fit.
      reference: real images; None where no metric needs them.
      statistics: an archive of the real images' statistics to use in their place.
      prompts: a text an image; only CLIP needs them.
      cache: folder for the reference's statistics and features.
      bar: shows progress.

    Returns:
      Scores by name; and what they are of: networks, numbers of images.

    Raises:
      UserError: images and reference do not fit each other or the metrics.
    """
    process = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    if demand.is_paired and reference is None:
        raise UserError("comparing images with their originals needs --reference with the originals")
    if judges.features is not None:
        extractor = Extractor(judges.features, batch_size)
        real = _reference(demand, extractor, reference, statistics, cache, process, bar)
    images = open_images()
    demand.check_num(len(images), None if reference is None else len(reference))
    if demand.is_paired:
        check_pairs(images, reference)
    facts = {"num": len(images), "num_reference": None if reference is None else len(reference)}
    scores: dict[str, float] = {}
    if judges.features is not None:
        with bar("images", _share(images, process)) as progress:
            batches = consume(images.batches(extractor.batch_size, **process), progress)
            summary = summarize(extractor, batches, len(images), demand.wanted(judges.features))
        scores |= score_features(demand, judges.features, summary, real, make_mesh(MeshConfig()))
        facts |= judges.features.identity
        if real is not None:
            facts |= {"num_reference": real.num, "reference_made": real.made_as}
    if demand.of_pairs:
        scores |= _pairs(demand, judges, images, reference, batch_size, process, bar)
    if judges.clip is not None:
        scores["clip"] = _clip(judges.clip, images, prompts, batch_size, process, bar)
    if demand.of_seams:
        scores |= _seams(demand.seam_period, images, batch_size, process, bar)
        facts["seam_period"] = demand.seam_period
    return scores, facts


def _reference(
    demand: Demand,
    extractor: Extractor,
    images: ImageSet | None,
    statistics: str | None,
    cache: Path | None,
    process: Mapping[str, int],
    bar: Bar,
) -> Reference | None:
    network: FeatureNetwork = extractor.network
    outputs = tuple(demand.outputs(network).values())
    manifold_num = demand.manifold_num if demand.needs_reference_features else 0
    if not outputs and not manifold_num:
        return None
    stored = None
    if statistics is not None:
        stored = reference_of_file(statistics, network.identity, {name: network.outputs[name] for name in outputs})
        outputs = ()
    if outputs or manifold_num:
        if images is None:
            wanted = " and ".join(demand.of_features)
            raise UserError(f"{wanted} need real images; give --reference with images, not with statistics only")
        with bar("reference", _share(images, process)) as progress:
            made = reference_of_images(
                images, extractor, outputs, manifold_num=manifold_num, cache=cache, process=process, progress=progress
            )
        if stored is None:
            return made
        return Reference(stored.name, stored.num, stored.moments, made.features, stored.made_as)
    return stored


def _pairs(
    demand: Demand,
    judges: Judges,
    images: ImageSet,
    reference: ImageSet,
    batch_size: int,
    process: Mapping[str, int],
    bar: Bar,
) -> dict[str, float]:
    extractor = Extractor(pair_network(demand, judges.perceptual), batch_size)
    with bar("pairs", _share(images, process)) as progress:
        both = consume(pairs(images, reference, extractor.batch_size, **process), progress)
        return score_pairs(extractor, both, len(images))


def _clip(
    scorer: ClipScorer,
    images: ImageSet,
    prompts: Sequence[str],
    batch_size: int,
    process: Mapping[str, int],
    bar: Bar,
) -> float:
    kept = []
    with bar("clip", _share(images, process)) as progress:
        for batch in consume(images.batches(batch_size, **process), progress):
            texts = [prompts[index] for index in batch["index"]]
            kept.append((batch["index"], scorer.scores(batch["image"], texts)[:, None]))
    return clip_score(gather_rows(kept, len(images), 1)[:, 0])


def _seams(period: int, images: ImageSet, batch_size: int, process: Mapping[str, int], bar: Bar) -> dict[str, float]:
    kept = []
    with bar("seams", _share(images, process)) as progress:
        for batch in consume(images.batches(batch_size, **process), progress):
            kept.append((batch["index"], phase_differences(batch["image"], period)))
    score = seam_score(gather_rows(kept, len(images), period))
    interval = {"seams_low": score.low, "seams_high": score.high}
    return {"seams": score.ratio, **interval, "seams_z": score.z, "seams_p": score.p}


def _share(images: ImageSet, process: Mapping[str, int]) -> int:
    return len(np.arange(len(images))[process["process_index"] :: process["process_count"]])


def open_reference(spec: str | None, **settings: Any) -> tuple[ImageSet | None, str | None]:
    """What a reference is: images, an archive of statistics, both (ADM's reference batches), or nothing."""
    if spec is None:
        return None, None
    if not holds_statistics(spec):
        return ImageSet(spec, **settings), None
    try:
        return ImageSet(spec, **settings), spec
    except UserError:  # no images in it
        return None, spec
