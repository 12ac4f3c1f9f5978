"""What a data set is to those who train and evaluate, and how one is made from a config."""

from __future__ import annotations

import abc
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from pdm_jax.config import DataConfig
from pdm_jax.data.tasks import TaskInputs
from pdm_jax.errors import UserError

# image uint8 (b, H, W, C), index int64 (b,), with classes also label int32 (b,), and what `TaskInputs` says
Batch = dict[str, np.ndarray]
_NO_TASK = TaskInputs()


class Dataset(abc.ABC):
    """Images in batches: without end and shuffled by `iter(dataset)`, each once and in order by `once`.

    The endless order is one stream of records for all hosts: permutation after permutation of the whole data set,
    a new one each epoch. A global batch is the next `batch_size` records of the stream (also across the end of an
    epoch), dealt out to the hosts in turn. So the stream depends on the data and the seed, not on the number of
    hosts or workers, and a position in it is all there is to resume.
    """

    first_stage: str | None = None  # the fingerprint of what encoded its latents; None of a data set of images

    def __init__(
        self,
        name: str,
        num_records: int,
        class_names: tuple[str, ...],
        fingerprint: str,
        batch_size: int,
        seed: int,
        process_index: int,
        process_count: int,
    ):
        """Arguments as in `make_dataset`; `fingerprint` tells one content and order of records from another."""
        if not 0 < batch_size <= num_records:
            raise UserError(
                f"the batch size is {batch_size}, but {name} has {num_records} images; choose 1 to {num_records}"
            )
        if batch_size % process_count:
            raise UserError(
                f"the batch size {batch_size} does not divide by the {process_count} hosts; choose a multiple"
            )
        self.name = name
        self.num_records = num_records
        self.class_names = class_names  # empty when unlabelled
        self.batch_size = batch_size  # over all hosts
        self.identity = {"num_records": num_records, "fingerprint": fingerprint, "seed": seed}
        self._seed = seed % 2**32  # the generators want no negative numbers
        self._process_index = process_index
        self._process_count = process_count

    @property
    def num_classes(self) -> int:
        """0 when unlabelled."""
        return len(self.class_names)

    @property
    def host_batch_size(self) -> int:
        """Records of each global batch that are this host's."""
        return self.batch_size // self._process_count

    def __iter__(self) -> BatchIterator:
        return BatchIterator(self)

    @abc.abstractmethod
    def stream(self, position: int) -> Generator[Batch]:
        """This host's part of each global batch, without end, from record `position` of the stream on."""

    @abc.abstractmethod
    def once(self) -> Generator[Batch]:
        """This host's records, each once and in the order of the source, never flipped; a random crop is the middle.

        Host h of n has the records whose index leaves h when divided by n. All batches but the last are full.
        """


class BatchIterator:
    """Endless batches that can be left and resumed exactly. Its whole state is a position in the stream."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        self._position = 0  # records of the stream in the batches that were returned, on all hosts
        self._batches: Generator[Batch] | None = None

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = self._dataset.stream(self._position)
        batch = next(self._batches)
        self._position += self._dataset.batch_size
        return batch

    def state(self) -> dict[str, Any]:
        """Where the iterator is, as plain JSON: after the batches that were returned, whatever was prefetched."""
        return {"position": self._position, **self._dataset.identity}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues where `state` was taken; the number of hosts and workers may be another.

        Raises:
          UserError: the state is of another data set or seed.
        """
        here = self._dataset.identity
        changed = [f"{key} was {state.get(key)!r}, is {here[key]!r}" for key in here if state.get(key) != here[key]]
        if changed:
            raise UserError(
                f"the saved place in the data is not one in {self._dataset.name}: {'; '.join(changed)}; "
                "continue with the same data and seed, or start a new run"
            )
        self.close()
        self._position = state["position"]

    def close(self) -> None:
        """Stops threads and worker processes. Iterating on starts them again, at the same place."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


def make_dataset(
    config: DataConfig,
    seed: int,
    inputs: TaskInputs = _NO_TASK,
    *,
    process_index: int = 0,
    process_count: int = 1,
) -> Dataset:
    """The data set of a config, read and decoded by grain.

    Args:
      config: source, size, crop and so on.
      seed: of the order, the crops and the flips.
      inputs: what batches hold beside images, labels and indices.
      process_index: which host this is.
      process_count: how many hosts share each batch.

    Raises:
      UserError: the config or the source cannot be used.
    """
    from pdm_jax.data.opening import open_images, open_latents  # arrays in memory need neither grain nor Pillow

    kind = open_latents if config.source.startswith("latents:") else open_images
    return kind(config, seed, inputs, process_index=process_index, process_count=process_count)
