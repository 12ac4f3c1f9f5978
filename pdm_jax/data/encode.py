"""Turns any source of images into one ArrayRecord file of latents, so that a first stage runs on each image once."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from pdm_jax.config import DataConfig
from pdm_jax.data.codec import decode_classes, encode_png
from pdm_jax.data.pipeline import ahead
from pdm_jax.data.record import BrokenImageError, Record, Source
from pdm_jax.data.sources.array_records import header_of, write_array_record
from pdm_jax.data.sources.latents import DTYPES, Latents, latent_header
from pdm_jax.data.transforms import ImageTransform, View, view_classes
from pdm_jax.errors import UserError

_log = logging.getLogger(__name__)
Encoder = Callable[[np.ndarray], np.ndarray]  # images uint8 (b, H, W, C) -> moments (b, h, w, c)


def encode_source(
    source: Source,
    config: DataConfig,
    encoder: Encoder,
    first_stage: str,
    path: Path,
    *,
    dtype: str = "float16",
    progress: Callable[[Iterable], Iterable] = iter,
    force: bool = False,
) -> tuple[int, int]:
    """Writes the latents of a source to `path`, in order, with labels, captions, layouts and class maps.

    Images are cut and resized as `config` says; with `flip`, their mirror images are encoded as well. Those that do not
    decode are skipped and named in the log.

    Args:
      source: what to encode.
      config: how; its batch size is that of the encoder.
      encoder: the first stage; batches may be smaller than `config.batch_size`.
      first_stage: its fingerprint, which is kept, and checked by those that train on the latents.
      path: the ArrayRecord file; it appears only when it is complete.
      dtype: in which the moments are kept, one of `DTYPES`.
      progress: wraps the iteration over `len(source)` images.
      force: replaces a file that exists.

    Returns:
      (number of images encoded, number skipped).

    Raises:
      UserError: the file exists or cannot be written, settings do not fit, or no image is usable.
    """
    if config.crop == "random":
        raise UserError("config.data.crop is 'random', but latents are encoded once; use 'center' or 'stretch'")
    if dtype not in DTYPES:
        raise UserError(f"moments cannot be kept as {dtype!r}; choose {' or '.join(DTYPES)}")
    if path.exists() and not force:
        raise UserError(f"{path} exists; give another name, or --force to replace it")
    skipped = 0

    def usable() -> Iterator[tuple[Record, View]]:
        nonlocal skipped
        for item in progress(_viewed(source, config)):
            if isinstance(item, BrokenImageError):
                skipped += 1
                _log.warning("skipped %s", item)
            else:
                yield item
        if skipped == len(source):
            raise UserError(f"none of the {skipped} images decodes, so that {path} was not written")

    shape = encoder(np.zeros((1, *config.size, config.channels), np.uint8)).shape[1:]
    header = latent_header(header_of(source), config, first_stage, dtype, (1 + config.flip, *shape))
    return write_array_record(path, _encoded(usable(), config, encoder, dtype), header), skipped


def _viewed(source: Source, config: DataConfig) -> Iterable[tuple[Record, View] | BrokenImageError]:
    """Each record in order, its map cut as its image is, or why it is broken."""
    transform, nothing = ImageTransform(config.size, config.channels, config.crop), np.random.default_rng(0)

    def view(index: int) -> tuple[Record, View] | BrokenImageError:
        try:
            record = source[index]
            seen = transform.view(record, nothing)
            if record.map is not None:
                record = dataclasses.replace(record, map=encode_png(view_classes(decode_classes(record), seen)))
        except BrokenImageError as error:
            return error
        return record, seen

    return ahead(view, len(source))


def _encoded(
    viewed: Iterator[tuple[Record, View]], config: DataConfig, encoder: Encoder, dtype: str
) -> Iterator[Record]:
    """The records with latents in the place of images."""
    while batch := list(itertools.islice(viewed, config.batch_size)):
        images = np.stack([view.pixels for _, view in batch])
        both = [images, images[:, :, ::-1]] if config.flip else [images]
        moments = np.stack([encoder(each) for each in both], axis=1)  # (b, 1 or 2, h, w, c)
        for (record, view), each in zip(batch, moments, strict=True):
            yield dataclasses.replace(record, image=Latents(each, view.window).pack(dtype))
