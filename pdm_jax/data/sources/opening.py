"""From the text a user writes, `kind:rest` or a plain path, to a source."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from pdm_jax.data.record import Source
from pdm_jax.data.sources.archives import NpzSource
from pdm_jax.data.sources.array_records import ArrayRecordSource
from pdm_jax.data.sources.builtin import DigitsSource, PhotosSource
from pdm_jax.data.sources.files import FolderSource, ZipSource
from pdm_jax.data.sources.prepared import TfdsSource
from pdm_jax.data.sources.scenes import ScenesSource
from pdm_jax.errors import UserError

_BUILTIN = {
    "digits": DigitsSource,
    "photos": PhotosSource,
    "scenes": ScenesSource,
    "scenes64": lambda: ScenesSource(64),
}
_KINDS = {
    "builtin": lambda rest, split, fields: _open_builtin(rest),
    "folder": lambda rest, split, fields: FolderSource(rest, fields),
    "zip": lambda rest, split, fields: ZipSource(rest, fields),
    "arrayrecord": lambda rest, split, fields: ArrayRecordSource(rest),
    "npz": lambda rest, split, fields: NpzSource(rest),
    "tfds": lambda rest, split, fields: TfdsSource(rest, split),
}


def open_source(spec: str, split: str = "train", fields: Sequence[str] = ()) -> Source:
    """Opens `builtin:NAME`, `folder:`, `zip:`, `arrayrecord:`, `npz:`, `tfds:` and a name, or a plain path.

    Args:
      spec: the source; a plain path is taken for a folder, a zip, an ArrayRecord file or an archive by what it is.
      split: which part, for sources that have parts (tfds).
      fields: of `pdm_jax.data.record.FIELDS`, those that records are to hold where the source has them.

    Raises:
      UserError: the kind is unknown, or there is nothing of the kind at the place.
    """
    kind, colon, rest = spec.partition(":")
    if colon and kind in _KINDS:
        return _KINDS[kind](rest, split, fields)
    path = Path(spec).expanduser()
    if path.exists():
        kind = {".array_record": "arrayrecord", ".npz": "npz"}.get(path.suffix, "zip")
        return _KINDS["folder" if path.is_dir() else kind](spec, split, fields)
    near = difflib.get_close_matches(kind, _KINDS, n=1)
    hint = f"; did you mean {near[0]}:{rest}?" if near and colon else ""
    kinds = "builtin:digits|photos|scenes, folder:PATH, zip:PATH, arrayrecord:PATTERN, npz:PATTERN or tfds:NAME"
    raise UserError(f"the data source {spec!r} is no path that exists; expected {kinds}{hint}")


def _open_builtin(name: str) -> Source:
    if name not in _BUILTIN:
        *others, last = (f"builtin:{known}" for known in _BUILTIN)
        raise UserError(f"builtin:{name} does not exist; the built-in sources are {', '.join(others)} and {last}")
    return _BUILTIN[name]()
