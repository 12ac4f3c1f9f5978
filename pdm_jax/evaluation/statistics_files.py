"""Statistics of a reference as a file: our own, or one of pytorch-fid, clean-fid or ADM."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.evaluation.statistics import Moments, Statistics
from pdm_jax.files import write_whole

_FOREIGN = {"pool": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}  # the second pair in ADM's batches alone


@dataclasses.dataclass(frozen=True)
class StoredStatistics:
    """What a file holds."""

    path: Path
    moments: Mapping[str, Moments]  # by the name of the network's output
    identity: Mapping[str, str] | None  # how they were made; None in a foreign file, which does not say


def write_statistics(
    path: str | os.PathLike, statistics: Mapping[str, Statistics], identity: Mapping[str, str]
) -> None:
    """Writes statistics by output, whole or not at all, into an existing folder.

    Args:
      path: an `.npz` file.
      statistics: of at least 2 images each.
      identity: how they were made: `FeatureNetwork.identity`, and what names the images.

    Raises:
      UserError: the file cannot be written.
    """
    path = Path(path)
    arrays = {"identity": np.array(json.dumps(dict(identity)))}
    for name, of in statistics.items():
        arrays |= {f"{name}/n": np.array(of.n), f"{name}/mean": of.mean, f"{name}/covariance": of.covariance}
    try:
        write_whole(path, lambda file: np.savez(file, **arrays))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another place") from error


def read_statistics(path: str | os.PathLike) -> StoredStatistics:
    """Reads our own file, or a foreign one: `mu` and `sigma` are of Inception's pool features (pytorch-fid 0.3.0,
    clean-fid 0.1.35, ADM), `mu_s` and `sigma_s` of its spatial ones (ADM). The images of an ADM batch stay unread.

    Raises:
      UserError: the file does not exist, is damaged, is of another kind, or holds no sound statistics.
    """
    path = Path(path)
    with _opened(path) as file:
        if "identity" in file.files:
            identity = json.loads(str(file["identity"]))
            names = [key.removesuffix("/mean") for key in file.files if key.endswith("/mean")]
            keys = {name: (f"{name}/mean", f"{name}/covariance") for name in names}
            counts = {name: int(file[f"{name}/n"]) for name in names}
        else:
            identity, counts = None, {}
            keys = {name: pair for name, pair in _FOREIGN.items() if pair[0] in file.files}
        if not keys:
            shown = ", ".join(file.files[:8]) or "nothing"
            raise UserError(f"{path} holds {shown}, expected statistics (mu and sigma); give a statistics file")
        moments = {
            name: Moments(*(np.asarray(file[key], np.float64) for key in pair), counts.get(name))
            for name, pair in keys.items()
        }
    for name, of in moments.items():
        _check_sound(path, name, of)
    return StoredStatistics(path, moments, identity)


def check_identity(stored: StoredStatistics, identity: Mapping[str, str], outputs: Mapping[str, int]) -> None:
    """Checks that stored statistics may meet features of a network.

    A foreign file does not say what it is of: it is accepted if its sizes fit, with `stored.identity` None.

    Args:
      stored: what a file holds.
      identity: `FeatureNetwork.identity`, or more; the file may say more than is asked.
      outputs: size D of each output that is needed.

    Raises:
      UserError: the file is of another network, other weights or another resize, lacks an output, or has it in
        another size; names both.
    """
    if stored.identity is not None and any(stored.identity.get(key) != identity[key] for key in identity):
        found, wanted = (_text({key: of.get(key) for key in identity}) for of in (stored.identity, identity))
        raise UserError(
            f"{stored.path} is of {found}, but this evaluation has {wanted}; "
            "compute the reference again, or evaluate as it was made"
        )
    for name, size in outputs.items():
        if name not in stored.moments:
            held = ", ".join(stored.moments)
            raise UserError(f"{stored.path} holds statistics of {held}, but {name} is needed; compute them again")
        found = stored.moments[name].mean.size
        if found != size:
            raise UserError(
                f"{stored.path} has {found} {name} features, but this network has {size}; "
                "give the statistics of this network"
            )


def _text(identity: Mapping[str, str | None]) -> str:
    return ", ".join(f"{key} {value}" for key, value in identity.items())


def _check_sound(path: Path, name: str, moments: Moments) -> None:
    mean, covariance = moments.mean, moments.covariance
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise UserError(
            f"{path} has a {name} mean of shape {mean.shape} and a covariance of {covariance.shape}, "
            "expected (D,) and (D, D); compute it again"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UserError(f"{path} holds {name} statistics that are NaN or infinite; compute it again")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The file's arrays, each read when asked for; any sign of damage is a `UserError`."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; give the path of a statistics file (.npz)")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is no .npz file, or is cut short; copy or download it again")
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged or of another kind ({error}); copy or download it again") from error
