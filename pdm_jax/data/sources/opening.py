"""From the text a user writes, `kind:rest` or a plain path, to a source."""

from __future__ import annotations

import difflib
from pathlib import Path

from pdm_jax.data.record import Source
from pdm_jax.data.sources.archives import NpzSource
from pdm_jax.data.sources.array_records import ArrayRecordSource
from pdm_jax.data.sources.builtin import open_builtin
from pdm_jax.data.sources.files import FolderSource, ZipSource
from pdm_jax.data.sources.prepared import TfdsSource
from pdm_jax.errors import UserError

_KINDS = {
    "builtin": lambda rest, split: open_builtin(rest),
    "folder": lambda rest, split: FolderSource(rest),
    "zip": lambda rest, split: ZipSource(rest),
    "arrayrecord": lambda rest, split: ArrayRecordSource(rest),
    "npz": lambda rest, split: NpzSource(rest),
    "tfds": TfdsSource,
}


def open_source(spec: str, split: str = "train") -> Source:
    """Opens `builtin:digits|photos`, `folder:`, `zip:`, `arrayrecord:`, `npz:`, `tfds:` and a name, or a plain path.

    Args:
      spec: the source; a plain path is taken for a folder, a zip, an ArrayRecord file or an archive by what it is.
      split: which part, for sources that have parts (tfds).

    Raises:
      UserError: the kind is unknown, or there is nothing of the kind at the place.
    """
    kind, colon, rest = spec.partition(":")
    if colon and kind in _KINDS:
        return _KINDS[kind](rest, split)
    path = Path(spec).expanduser()
    if path.is_dir():
        return FolderSource(spec)
    if path.is_file():
        return {".array_record": ArrayRecordSource, ".npz": NpzSource}.get(path.suffix, ZipSource)(spec)
    near = difflib.get_close_matches(kind, _KINDS, n=1)
    hint = f"; did you mean {near[0]}:{rest}?" if near and colon else ""
    kinds = "builtin:digits, builtin:photos, folder:PATH, zip:PATH, arrayrecord:PATTERN, npz:PATTERN or tfds:NAME"
    raise UserError(f"the data source {spec!r} is no path that exists; expected {kinds}{hint}")
