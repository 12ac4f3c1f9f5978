"""ArrayRecord files of latents: what a first stage makes of images, encoded once (LDM, section 3.1).

Records are those of images (`array_records`), but for the bytes of the image: those are the window on the image that
was encoded, four little-endian float32 [left, top, width, height] in parts of it, and then its moments, little-endian
(n, h, w, c) of the header's `dtype` and `shape`. The n are the image as it is and, where the header's `flip` is true,
its mirror image. The c are means and logarithms of variances of a KL stage, so that its latents are drawn anew whenever
they are read, or the latents before the codebook of a VQ stage. Class maps are cut and resized as the image was.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pdm_jax.config import DataConfig
from pdm_jax.data.layouts import Box
from pdm_jax.data.record import Record, checksum
from pdm_jax.data.sources.array_records import ArrayRecordSource
from pdm_jax.errors import UserError

DTYPES = ("float16", "float32")
_KEPT = ("crop", "channels")  # settings that latents are of


class Latents(NamedTuple):
    """What is kept of an image."""

    moments: np.ndarray  # (1 or 2, h, w, c): as it is, mirrored
    window: Box  # on the image, before mirroring

    def pack(self, dtype: str) -> bytes:
        """The bytes that `LatentSource.unpack` reads."""
        window = np.asarray(self.window, "<f4").tobytes()
        return window + np.asarray(self.moments).astype(np.dtype(dtype).newbyteorder("<")).tobytes()


class LatentSource(ArrayRecordSource):
    """The latents of all files that match a pattern, made by one first stage with the same settings."""

    FORMAT = "pdm_jax.latents.1"
    MADE_BY = "pdm data encode --config=CONFIG"

    def __init__(self, pattern: str):
        super().__init__(pattern)
        self.fingerprint = checksum([self.fingerprint, self.header["first_stage"]])

    def unpack(self, record: Record) -> Latents:
        """The latents of one of its records; the moments are float32."""
        window = np.frombuffer(record.image, "<f4", count=4)
        dtype = np.dtype(self.header["dtype"]).newbyteorder("<")
        moments = np.frombuffer(record.image, dtype, offset=window.nbytes).reshape(self.header["shape"])
        return Latents(moments.astype(np.float32), tuple(window.tolist()))

    def check(self, config: DataConfig) -> None:
        """Raises a `UserError` unless images were encoded as a run wants them."""
        made = self.header
        wanted = {name: getattr(config, name) for name in _KEPT} | {"image_size": list(config.size)}
        wanted |= {"flip": True} if config.flip else {}  # mirror images need not be used
        if wrong := [name for name in wanted if made[name] != wanted[name]]:
            raise UserError(
                f"{config.source} was encoded with config.data.{wrong[0]} = {made[wrong[0]]!r}, the run has "
                f"{wanted[wrong[0]]!r}; encode again, or change the run"
            )


def latent_header(
    source_header: dict[str, Any], config: DataConfig, first_stage: str, dtype: str, shape: tuple
) -> dict:
    """The header of a file of latents.

    Args:
      source_header: that of a file of the same images.
      config: how they were cut; with `flip` their mirror images were encoded, too.
      first_stage: the fingerprint of what encoded them.
      dtype: of the moments, one of `DTYPES`.
      shape: of a record's moments, (n, h, w, c).
    """
    how = {name: getattr(config, name) for name in (*_KEPT, "flip")} | {"image_size": list(config.size)}
    what = {"first_stage": first_stage, "dtype": dtype, "shape": list(shape)}
    return source_header | how | what | {"format": LatentSource.FORMAT}
