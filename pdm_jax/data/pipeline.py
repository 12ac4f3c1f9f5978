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
from collections.abc import Callable, Generator, Iterable
from typing import Any

import grain
import numpy as np
from absl import flags

from pdm_jax.config import DataConfig
from pdm_jax.data.dataset import Batch, Dataset
from pdm_jax.data.readers import Element, Reader
from pdm_jax.data.record import BrokenImageError, Source
from pdm_jax.errors import UserError

_log = logging.getLogger(__name__)
_END = 2**60  # of the endless stream: grain counts its batches in floats, which `sys.maxsize` overflows


class GrainDataset(Dataset):
    """The records of a source, read and decoded by threads (`num_workers=0`) or worker processes.

    A record that does not decode is skipped and named in the log, once: in the stream its place is filled with
    another one, drawn at random by the place's own generator; `once` leaves it out.
    """

    def __init__(
        self,
        source: Source,
        config: DataConfig,
        seed: int,
        training: Reader,
        once: Reader,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """Makes a data set of a source.

        Args:
          source: of records.
          config: its name, the batch size and the number of workers are used here.
          seed: of the order and of all that is random in training.
          training: makes the elements of the stream.
          once: those of the single pass.
          process_index: which host this is.
          process_count: how many hosts share each batch.

        Raises:
          UserError: the batch size does not fit, or no record can be used.
        """
        self._source, self._config = source, config
        self._training, self._single = training, once
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
        self._require_usable_record()

    def stream(self, position: int) -> Generator[Batch]:
        indices = grain.MapDataset.range(self.num_records).seed(self._seed).shuffle()
        records = indices.random_map(_Draw(self._source, self._training)).repeat()[position:_END]
        for batch in self._batches(records):
            self._drop_wanted(batch)
            yield batch

    def once(self) -> Generator[Batch]:
        indices = grain.MapDataset.range(self.num_records).seed(0)
        records = indices.random_map(_Draw(self._source, self._single))
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
            _log.warning("skipped %s (%s)", self._why_broken(index), total)
        return is_wanted

    def _require_usable_record(self) -> None:
        reasons = map(self._why_broken, range(len(self._source)))
        if (first_reason := next(reasons)) is not None and all(reasons):
            raise UserError(f"{self.name} has no usable image among {self.num_records}; the first, {first_reason}")

    def _why_broken(self, index: int) -> str | None:
        """The reason why a record does not decode, which names it; None when it does."""
        try:
            self._single(self._source[index], np.random.default_rng(0))
        except BrokenImageError as error:
            return str(error)
        return None

    def _without_stand_ins(self, batch: Batch) -> Batch:
        is_wanted = self._drop_wanted(batch)
        return batch if is_wanted.all() else {key: value[is_wanted] for key, value in batch.items()}


def ahead(function: Callable[[int], Any], count: int) -> Iterable[Any]:
    """function(0) .. function(count - 1) in order, which threads compute ahead; what they raise loses its one line."""
    threads = os.cpu_count() or 1
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * threads)
    return grain.MapDataset.range(count).map(function).to_iter_dataset(options)


class _Draw:
    """Makes an element of a batch from the index that is wanted, or from another where that image is broken."""

    def __init__(self, source: Source, reader: Reader):
        self._source = source
        self._reader = reader
        self._keep = source.cacheable and not reader.is_random
        self._kept: dict[int, Element] = {}
        self._broken: set[int] = set()

    def __call__(self, wanted: int, rng: np.random.Generator) -> Element:
        if wanted in self._kept:
            return self._kept[wanted]
        index = wanted
        while (element := self._read(index, rng)) is None:
            index = int(rng.integers(len(self._source)))
        element["wanted"] = np.int64(wanted)
        if self._keep and index == wanted:
            self._kept[wanted] = element
        return element

    def _read(self, index: int, rng: np.random.Generator) -> Element | None:
        """None where the image is broken. Then `rng` is as it was: what is drawn does not hang on what is known."""
        if index in self._broken:
            return None
        try:
            return self._reader(self._source[index], rng)
        except BrokenImageError:
            self._broken.add(index)
            return None


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
