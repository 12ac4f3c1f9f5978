"""What compilers answered, as JSON files named by what was asked."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import pdm_jax
from pdm_jax.errors import UserError
from pdm_jax.files import write_whole


class Cache:
    """A folder of answers.

    Raises:
      UserError: the folder cannot be made or written to.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        """The answer to `key`; None if there is none that can be read."""
        try:
            return json.loads((self.folder / f"{kind}-{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write(self, kind: str, key: str, answer: dict[str, Any]) -> None:
        """Keeps an answer."""
        text = json.dumps(answer, indent=1).encode()
        try:
            write_whole(self.folder / f"{kind}-{key}.json", lambda file: file.write(text))
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"cannot write to {self.folder}: {error.strerror}; set PDM_CACHE to another folder")


def digest(facts: Any) -> str:
    """Sixteen hex digits that name plain JSON by its content."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def versions() -> dict[str, str | None]:
    """Of what turns a traced program into a compiled one."""
    flags = {name: os.environ.get(name) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")}
    return {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")} | flags


@functools.cache
def sources(folder: str = "") -> str:
    """A digest of this package's own modules, or of those in one folder of it."""
    root = Path(pdm_jax.__file__).parent
    return digest([path.read_text(encoding="utf-8") for path in sorted((root / folder).rglob("*.py"))])
