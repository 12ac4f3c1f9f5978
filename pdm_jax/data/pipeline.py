"""Records to batches with grain: random access all the way, so that any place is reached at once.

The pipeline is one chain of grain's `MapDataset`s: positions of the stream, shuffled anew each epoch, read, decoded
and transformed with a generator of each position's own, dealt out to hosts and batched. Threads and worker
processes only compute elements of this chain ahead, whole batches each; the order does not depend on them.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable
from typing import Any

import grain
import numpy as np
from absl import flags

from pdm_jax.config import DataConfig
from pdm_jax.data.codec import decode
from pdm_jax.data.dataset import Batch, Dataset
from pdm_jax.data.record import BrokenImageError, Source
from pdm_jax.data.sources import open_source
from pdm_jax.data.transforms import CROPS, ImageTransform
from pdm_jax.errors import UserError

_log = logging.getLogger(__name__)
_END = 2**60  # of the endless stream: grain counts its batches in floats, which `sys.maxsize` overflows


class GrainDataset(Dataset):
    """The images of a source, read and decoded by threads (`num_workers=0`) or worker processes.

    An image that does not decode is skipped and named in the log, once: in the stream its place is filled with
    another record, drawn at random by the place's own generator; `once` leaves it out.
    """

    def __init__(self, config: DataConfig, seed: int, process_index: int = 0, process_count: int = 1):
        """Arguments and errors as in `make_dataset`."""
        _check(config)
        self._source = source = open_source(config.source, config.split)
        self._config = config
        self._skipped: set[int] = set()
        super().__init__(
            name=config.source,
            num_records=len(source),
            class_names=source.class_names,
            fingerprint=source.fingerprint,
            batch_size=config.batch_size,
            seed=seed,
            process_index=process_index,
            process_count=process_count,
        )
        _require_usable_image(source, config.source)

    def stream(self, position: int) -> Generator[Batch]:
        config = self._config
        transform = ImageTransform(
            config.size, config.channels, config.crop, config.min_crop, config.flip, reduced=True
        )
        indices = grain.MapDataset.range(self.num_records).seed(self._seed).shuffle()
        records = indices.random_map(_Draw(self._source, transform)).repeat()[position:_END]
        for batch in self._batches(records):
            self._drop_wanted(batch)
            yield batch

    def once(self) -> Generator[Batch]:
        crop = "stretch" if self._config.crop == "stretch" else "center"
        transform = ImageTransform(self._config.size, self._config.channels, crop)
        indices = grain.MapDataset.range(self.num_records).seed(0)
        records = indices.random_map(_Draw(self._source, transform))
        return _refilled(map(self._without_stand_ins, self._batches(records)), self.host_batch_size)

    def _batches(self, records: grain.MapDataset) -> Generator[Batch]:
        """This host's batches of records, computed ahead until the generator is closed."""
        mine = records[self._process_index :: self._process_count]
        batches = mine.batch(self.host_batch_size)
        workers = self._config.num_workers
        # Threads overlap reads and decoding, outside the interpreter's lock; small arrays would only fight for it.
        threads = 1 if self._source.cacheable else 2 if workers else min(os.cpu_count() or 1, 16)
        ahead = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
        if workers:
            if not flags.FLAGS.is_parsed():  # grain hands absl's flags to its workers, but we may run without absl
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
            ahead = ahead.mp_prefetch(options, worker_init_fn=_end_with_parent)
        iterator = iter(ahead)
        try:
            yield from map(_owned, iterator) if workers else iterator
        finally:
            iterator.close()
            if workers:
                gc.collect()  # at its end grain leaves the last batch's shared memory in a reference cycle

    def _drop_wanted(self, batch: Batch) -> np.ndarray:
        """Takes `wanted` out of a batch, logs what was skipped, and tells which records [b] are the wanted ones."""
        wanted = batch.pop("wanted")
        is_wanted = wanted == batch["index"]
        for index in set(wanted[~is_wanted].tolist()) - self._skipped:
            self._skipped.add(index)
            total = f"{len(self._skipped)} of {self.num_records} images so far"
            _log.warning("skipped %s (%s)", _why_broken(self._source, index), total)
        return is_wanted

    def _without_stand_ins(self, batch: Batch) -> Batch:
        is_wanted = self._drop_wanted(batch)
        return batch if is_wanted.all() else {key: value[is_wanted] for key, value in batch.items()}


class _Draw:
    """Makes an element of a batch from the index that is wanted, or from another where that image is broken."""

    def __init__(self, source: Source, transform: ImageTransform):
        self._source = source
        self._transform = transform
        self._keep = source.cacheable and not transform.is_random
        self._kept: dict[int, dict[str, Any]] = {}
        self._broken: set[int] = set()

    def __call__(self, wanted: int, rng: np.random.Generator) -> dict[str, Any]:
        if wanted in self._kept:
            return self._kept[wanted]
        index = wanted
        while (element := self._read(index, rng)) is None:
            index = int(rng.integers(len(self._source)))
        element["wanted"] = np.int64(wanted)
        if self._keep and index == wanted:
            self._kept[wanted] = element
        return element

    def _read(self, index: int, rng: np.random.Generator) -> dict[str, Any] | None:
        """None where the image is broken. Then `rng` is as it was: what is drawn does not hang on what is known."""
        if index in self._broken:
            return None
        try:
            record = self._source[index]
            element = {"image": self._transform(record, rng), "index": np.int64(index)}
        except BrokenImageError:
            self._broken.add(index)
            return None
        return element if record.label is None else element | {"label": np.int32(record.label)}


def _end_with_parent(index: int, count: int) -> None:
    """Lets a worker end with its parent: also when that is killed, and not before when Ctrl-C stops a run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _owned(batch: Batch) -> Batch:
    """A batch in memory of its own: what workers send lies in shared memory that goes away with their arrays."""
    return {key: np.array(value) for key, value in batch.items()}


def _refilled(batches: Iterable[Batch], size: int) -> Generator[Batch]:
    """The same records in full batches of `size`, but for the last."""
    rest: Batch | None = None
    for batch in batches:
        joined = batch if rest is None else {key: np.concatenate([rest[key], batch[key]]) for key in batch}
        count = len(joined["index"])
        if count >= size:
            yield {key: value[:size] for key, value in joined.items()}
        rest = {key: value[size if count >= size else 0 :] for key, value in joined.items()}
    if rest is not None and len(rest["index"]):
        yield rest


def _check(config: DataConfig) -> None:
    """Refuses values that no data set can have."""
    for name, least in (("image_size", min(config.size)), ("batch_size", config.batch_size)):
        if least < 1:
            raise UserError(f"config.data.{name} is {getattr(config, name)}; expected at least 1")
    if config.num_workers < 0:
        raise UserError(f"config.data.num_workers is {config.num_workers}; expected 0 (threads) or more processes")
    if config.channels not in (1, 3):
        raise UserError(f"config.data.channels is {config.channels}; expected 3 (RGB) or 1 (grey)")
    if config.crop not in CROPS:
        raise UserError(f"config.data.crop is {config.crop!r}; expected one of {', '.join(CROPS)}")
    if not 0 < config.min_crop <= 1:
        raise UserError(f"config.data.min_crop is {config.min_crop}; expected a part of the shorter side in (0, 1]")


def _require_usable_image(source: Source, name: str) -> None:
    first_reason = None
    for index in range(len(source)):
        reason = _why_broken(source, index)
        if reason is None:
            return
        first_reason = first_reason or reason
    raise UserError(f"{name} has no usable image among {len(source)}; the first, {first_reason}")


def _why_broken(source: Source, index: int) -> str | None:
    """The reason why an image does not decode, which names it; None when it does."""
    try:
        decode(source[index], channels=3)
    except BrokenImageError as error:
        return str(error)
    return None
