"""The real side of a comparison: statistics and features of real images, computed once and kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.evaluation.extraction import Extractor, consume
from pdm_jax.evaluation.image_sets import ImageSet
from pdm_jax.evaluation.statistics import Moments
from pdm_jax.evaluation.statistics_files import check_identity, read_statistics, write_statistics
from pdm_jax.evaluation.summary import Wanted, summarize
from pdm_jax.files import write_whole

_STATISTICS_KEYS = {"mu.npy", "mu_s.npy", "identity.npy"}


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What is known of the real images."""

    name: str
    num: int | None  # images behind the statistics; None where a file does not say
    moments: Mapping[str, Moments]  # by output of the feature network
    features: np.ndarray | None = None  # (m, D) of images spread evenly over the set
    made_as: str = "here"  # or "unknown": a foreign file does not say by which network and resize


def reference_of_images(
    images: ImageSet,
    extractor: Extractor,
    outputs: tuple[str, ...],
    *,
    manifold_num: int,
    cache: Path | None,
    process: Mapping[str, int],
    progress: Callable[[int], None],
) -> Reference:
    """Statistics of the outputs and features of up to `manifold_num` images, from the cache or in one pass.

    Args:
      images: the set; its revision and the network's identity are the cache's key.
      outputs: of the feature network, whose statistics are needed.
      manifold_num: 0 needs no features.
      cache: folder; None keeps nothing.
      process: which host this is, as for `ImageSet.batches`.
      progress: is told how many images were done.
    """
    identity = extractor.network.identity | {"images": images.revision, "manifold": str(manifold_num)}
    key = hashlib.sha256(json.dumps([identity, outputs]).encode()).hexdigest()[:16]
    paths = None if cache is None else (cache / f"reference-{key}.npz", cache / f"reference-{key}.npy")
    if paths is not None and paths[0].is_file() and (not manifold_num or paths[1].is_file()):
        stored = read_statistics(paths[0])
        check_identity(stored, identity, {name: extractor.network.outputs[name] for name in outputs})
        features = np.load(paths[1]) if manifold_num else None
        progress(len(range(process["process_index"], len(images), process["process_count"])))
        return Reference(images.name, len(images), stored.moments, features)
    batches = consume(images.batches(extractor.batch_size, **process), progress)
    wanted = Wanted(statistics=outputs, features=manifold_num > 0)
    summary = summarize(extractor, batches, len(images), wanted)
    statistics = {name: summary.statistics(name) for name in outputs}
    features = summary.features
    if features is not None:
        num = min(manifold_num, len(features))
        features = features[np.arange(num) * len(features) // num]
    if paths is not None and process["process_index"] == 0:
        cache.mkdir(parents=True, exist_ok=True)
        if features is not None:
            _save(paths[1], features)
        write_statistics(paths[0], statistics, identity)
    moments = {name: Moments(of.mean, of.covariance, of.n) for name, of in statistics.items()}
    return Reference(images.name, len(images), moments, features)


def holds_statistics(spec: str) -> bool:
    """Whether a plain path is an archive of statistics, maybe beside images, as ADM's reference batches."""
    path = Path(spec).expanduser()
    if path.suffix != ".npz" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return bool(_STATISTICS_KEYS & set(archive.namelist()))


def reference_of_file(path: str, identity: Mapping[str, str], outputs: Mapping[str, int]) -> Reference:
    """The statistics in a file, ours or another program's.

    Raises:
      UserError: the file cannot be read, or is of another network, other weights or another resize.
    """
    stored = read_statistics(Path(path).expanduser())
    if stored.identity is None and identity["features"] != "inception":
        raise UserError(
            f"{path} holds statistics of Inception, which cannot be compared with {identity['features']} features; "
            "give --features=inception:FILE, or a folder of the reference images"
        )
    check_identity(stored, identity, outputs)
    num = next(iter(stored.moments.values())).n
    return Reference(path, num, stored.moments, made_as="unknown" if stored.identity is None else "here")


def _save(path: Path, array: np.ndarray) -> None:
    try:
        write_whole(path, lambda file: np.save(file, array))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another --cache") from error
