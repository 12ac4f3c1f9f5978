"""Sets of images that are judged: every image once, in a fixed order, all of one size, none skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import numpy as np

from pdm_jax.config import DataConfig
from pdm_jax.data import Dataset, make_dataset
from pdm_jax.data.codec import decode
from pdm_jax.data.record import BrokenImageError, Record, checksum
from pdm_jax.data.sources import open_source
from pdm_jax.data.transforms import ImageTransform
from pdm_jax.errors import UserError

Batch = dict[
    str, np.ndarray
]  # image uint8 (b, H, W, C), index int64 (b,) in the set, name (b,) texts, maybe label (b,)
_BATCH = 128


class ImageSet:
    """Images of a data source, or a part of them, as they are or brought to one size."""

    def __init__(
        self,
        spec: str,
        *,
        split: str = "train",
        size: int | tuple[int, int] | None = None,
        channels: int = 3,
        crop: str = "center",
        num: int | None = None,
        spread: bool = True,
    ):
        """Opens a source.

        Args:
          spec: as `config.data.source`, or a plain path.
          split: which part, where the source has parts.
          size: crops the middle and resizes it to this square, or (height, width), as training reads images; None takes
            images as they are, and then all must have one size.
          channels: 3 (RGB) or 1 (grey).
          crop: "center", or "stretch" to resize the whole image whatever its aspect.
          num: how many; None is all.
          spread: takes them evenly from all over the source, where images may lie class after class; else the first.

        Raises:
          UserError: there is no such source, or it has fewer images than `num`.
        """
        self._source = open_source(spec, split)
        self._transform = None if size is None else ImageTransform(size, channels, crop)
        self._channels = channels
        have = len(self._source)
        if num is not None and num < 1:
            raise UserError(f"{num} images of {spec} were asked for; ask for at least 1")
        if num is not None and num > have:
            raise UserError(f"{spec} has {have} images, {num} were asked for; ask for fewer or give a larger set")
        self._places = np.arange(num or have) * (have if spread else num or have) // (num or have)
        self.name, self._split = spec, split
        self.num_classes = len(self._source.class_names)  # 0 when unlabelled
        how = f"{size} {channels} {num} {spread}" + (f" {crop}" if crop != "center" else "")
        self.revision = checksum([self._source.revision, how])
        self.image_shape = self._read(0)["image"].shape  # (H, W, C)

    def __len__(self) -> int:
        return len(self._places)

    def dataset(self) -> Dataset:
        """The whole source for training on, cropped to squares."""
        height, width, channels = self.image_shape
        batch_size = min(_BATCH, len(self._source))
        config = DataConfig(self.name, min(height, width), batch_size, channels=channels, split=self._split)
        return make_dataset(config, seed=0)

    def batches(self, batch_size: int, process_index: int = 0, process_count: int = 1) -> Iterator[Batch]:
        """This host's images, each once and in order; threads decode ahead. All batches but the last are full.

        Raises:
          UserError: an image cannot be decoded, or has another size than the first.
        """
        import grain

        threads = 1 if self._source.cacheable else min(os.cpu_count() or 1, 16)
        places = grain.MapDataset.range(len(self))[process_index::process_count]
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * threads)
        pending: list[Batch] = []
        for element in places.map(self._read_or_error).to_iter_dataset(options):
            if isinstance(element, UserError):
                raise element
            pending.append(element)
            if len(pending) == batch_size:
                yield _stack(pending)
                pending = []
        if pending:
            yield _stack(pending)

    def _read_or_error(self, place: int) -> Batch | UserError:
        """grain's threads hand errors over with a traceback of their own; as values they stay one line."""
        try:
            element = self._read(int(place))
        except UserError as error:
            return error
        if (shape := element["image"].shape) != self.image_shape:
            here, first = (f"{width}x{height}" for height, width, _ in (shape, self.image_shape))
            return UserError(
                f"{self.name} has images of several sizes: {element['name']} is {here}, the first {first}; "
                "give a --size to crop and resize all of them to"
            )
        return element

    def _read(self, place: int) -> Batch:
        try:
            record = self._source[int(self._places[place])]
            image = self._pixels(record)
        except BrokenImageError as error:
            raise UserError(f"{self.name} has a broken image, {error}; repair or remove it") from error
        element = {"image": image, "index": np.int64(place), "name": np.str_(record.name)}
        return element if record.label is None else element | {"label": np.int32(record.label)}

    def _pixels(self, record: Record) -> np.ndarray:
        if self._transform is not None:
            return self._transform(record, np.random.default_rng(0))  # a centre crop draws nothing
        pixels = np.asarray(decode(record, self._channels))
        return pixels.reshape(*pixels.shape[:2], self._channels)


def as_trained(data: DataConfig) -> dict[str, Any]:
    """How an `ImageSet` reads images as training reads them, without what is drawn at random."""
    return {"size": data.image_size, "channels": data.channels, "crop": data.fixed_crop}


def check_pairs(images: ImageSet, reference: ImageSet) -> None:
    """Raises a `UserError` unless both sets have the same number of images of the same size."""
    if len(images) != len(reference):
        raise UserError(
            f"{images.name} has {len(images)} images and {reference.name} has {len(reference)}; "
            "a comparison in pairs needs an image each"
        )
    if images.image_shape != reference.image_shape:
        (height, width, _), (other_height, other_width, _) = images.image_shape, reference.image_shape
        raise UserError(
            f"images of {images.name} are {width}x{height}, those of {reference.name} {other_width}x{other_height}; "
            "a comparison in pairs needs one size: give a --size"
        )


def pairs(images: ImageSet, reference: ImageSet, batch_size: int, **process: int) -> Iterator[Batch]:
    """The batches of `images` with the reference's as `original`; `process` is which host this is, as for `batches`.

    Raises:
      UserError: the sets differ in number or size, or files that would be paired have different names.
    """
    check_pairs(images, reference)
    both = (images.batches(batch_size, **process), reference.batches(batch_size, **process))
    for ours, theirs in zip(*both, strict=True):
        for name, other in zip(map(PurePath, ours["name"]), map(PurePath, theirs["name"]), strict=True):
            if name.suffix and other.suffix and name.stem != other.stem:
                raise UserError(
                    f"{name} of {images.name} would be compared with {other} of {reference.name}; "
                    "images are paired in the order of their names: give both of a pair the same name"
                )
        yield ours | {"original": theirs["image"]}


def _stack(elements: list[Batch]) -> Batch:
    return {key: np.stack([element[key] for element in elements]) for key in elements[0]}
