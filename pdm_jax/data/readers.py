"""From records to elements of batches: the image, its label, and what the tasks of a run need of it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from pdm_jax.data.codec import decode_classes
from pdm_jax.data.degradations import degrade
from pdm_jax.data.layouts import Box, parse_objects
from pdm_jax.data.masks import draw_mask
from pdm_jax.data.record import Record, Source
from pdm_jax.data.sources.latents import LatentSource
from pdm_jax.data.tasks import TaskInputs
from pdm_jax.data.tokenizer import load_tokenizer
from pdm_jax.data.transforms import ImageTransform, view_classes

Element = dict[str, Any]  # one row of a batch


class Reader(Protocol):
    """Makes the element of a record; `is_random` says whether two calls on a record may differ."""

    @property
    def is_random(self) -> bool: ...

    def __call__(self, record: Record, rng: np.random.Generator) -> Element: ...


class ImageReader:
    """Makes the element of a record: "image", "index", maybe "label", and those of its tasks."""

    def __init__(self, transform: ImageTransform, tasks: TaskReader):
        self._transform = transform
        self._tasks = tasks

    @property
    def is_random(self) -> bool:
        return self._transform.is_random or self._tasks.is_random

    def __call__(self, record: Record, rng: np.random.Generator) -> Element:
        """An element; `rng` decides all that is random about it.

        Raises:
          BrokenImageError: the image or its class map does not decode; then nothing was drawn.
          UserError: something else of the record is not as it should be.
        """
        classes = decode_classes(record) if self._tasks.has_map else None
        view = self._transform.view(record, rng)
        element = {"image": view.pixels, "index": np.int64(record.index)}
        if record.label is not None:
            element["label"] = np.int32(record.label)
        if classes is not None:
            element["map"] = view_classes(classes, view)
        return element | self._tasks.told(record, view.window, view.flipped, rng) | self._tasks.made(view.pixels, rng)


class LatentReader:
    """Makes the element of a record of latents: "moments" in the place of an image."""

    def __init__(self, source: LatentSource, tasks: TaskReader, flip: bool):
        """`flip` takes the mirror image with probability 1/2."""
        self._source, self._tasks, self._flip = source, tasks, flip

    @property
    def is_random(self) -> bool:
        return self._flip or self._tasks.is_random

    def __call__(self, record: Record, rng: np.random.Generator) -> Element:
        """An element; errors as of `ImageReader`."""
        classes = decode_classes(record) if self._tasks.has_map else None
        moments, window = self._source.unpack(record)
        flipped = self._flip and bool(rng.random() < 0.5)
        element = {"moments": moments[int(flipped)], "index": np.int64(record.index)}
        if record.label is not None:
            element["label"] = np.int32(record.label)
        if classes is not None:
            element["map"] = np.asarray(classes)[:, ::-1] if flipped else np.asarray(classes)
        return element | self._tasks.told(record, window, flipped, rng)


class TaskReader:
    """Makes what `TaskInputs` says of records and images."""

    def __init__(self, inputs: TaskInputs, source: Source, first_caption: bool = False):
        """`source` knows the names of objects; `first_caption` takes the first one of several, not any.

        Raises:
          UserError: the tokeniser cannot be used, or the number of objects' classes is not known.
        """
        self._inputs, self._first_caption = inputs, first_caption
        self.has_map = "semantic" in inputs.kinds
        self.is_random = inputs.is_random
        if "text" in inputs.kinds:
            self._tokenizer = load_tokenizer(inputs.tokenizer, inputs.max_length, inputs.vocab_size)
        if "layout" in inputs.kinds:
            self._names, self._codec = source.object_names, inputs.layout_codec(source.object_names)

    def told(self, record: Record, window: Box, flipped: bool, rng: np.random.Generator) -> Element:
        """What a record says of its image: "tokens" of a caption, "layout" of what is seen in a window."""
        element = {}
        if "text" in self._inputs.kinds:
            place = 0 if self._first_caption else int(rng.integers(len(record.captions)))
            element["tokens"] = self._tokenizer(record.captions[place])
        if "layout" in self._inputs.kinds:
            objects = parse_objects(record.layout, self._names, self._codec.num_classes, record.name)
            element["layout"] = self._codec.encode(objects, window, flipped, rng)
        return element

    def made(self, pixels: np.ndarray, rng: np.random.Generator) -> Element:
        """What is made of the pixels (H, W, C) of an image: a "low" copy, a "mask"."""
        element = {}
        if "superres" in self._inputs.kinds:
            element["low"] = degrade(pixels, self._inputs.factor, self._inputs.degradation, rng)
        if "inpaint" in self._inputs.kinds:
            element["mask"] = draw_mask(pixels.shape[:2], rng, self._inputs.mask)
        return element
