"""A data set of arrays in memory. It needs NumPy only, so that training runs on a bare accelerator image."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Mapping, Sequence

import numpy as np

from pdm_jax.data.dataset import Batch, Dataset
from pdm_jax.data.tasks import TYPES
from pdm_jax.errors import UserError


class _InMemory(Dataset):
    """Arrays (N, ...) by name, whose rows are the records; the first one identifies the data."""

    def __init__(
        self,
        records: dict[str, np.ndarray],
        class_names: tuple[str, ...],
        batch_size: int,
        seed: int,
        name: str,
        process_index: int,
        process_count: int,
    ):
        first = next(iter(records.values()))
        checksum = f"{zlib.crc32(np.ascontiguousarray(first)):08x}"
        super().__init__(name, len(first), class_names, checksum, batch_size, seed, process_index, process_count)
        self._records = records

    def stream(self, position: int) -> Generator[Batch]:
        while True:
            places = np.arange(position + self._process_index, position + self.batch_size, self._process_count)
            yield self._take(self._shuffled(places))
            position += self.batch_size

    def once(self) -> Generator[Batch]:
        indices = np.arange(self._process_index, self.num_records, self._process_count)
        for start in range(0, len(indices), self.host_batch_size):
            yield self._take(indices[start : start + self.host_batch_size])

    def _shuffled(self, places: np.ndarray) -> np.ndarray:
        """Indices [b] of the records at places [b] of the stream: each epoch's permutation comes from its number."""
        epochs, offsets = np.divmod(places, self.num_records)
        indices = np.empty_like(places)
        for epoch in np.unique(epochs):
            order = np.random.default_rng((self._seed, int(epoch))).permutation(self.num_records)
            indices[epochs == epoch] = order[offsets[epochs == epoch]]
        return indices

    def _take(self, indices: np.ndarray) -> Batch:
        records = {name: values[indices] for name, values in self._records.items()}
        return records | {"index": indices.astype(np.int64)}


class ArrayDataset(_InMemory):
    """Images, labels and what tasks need, all there already and taken as they are: no crop, no flip."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        batch_size: int,
        seed: int,
        *,
        inputs: Mapping[str, np.ndarray] | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "arrays",
        process_index: int = 0,
        process_count: int = 1,
    ):
        """Checks and keeps the arrays.

        Args:
          images: uint8 (N, H, W, C).
          labels: integers (N,) in [0, number of classes), or None.
          batch_size: over all hosts.
          seed: of the order.
          inputs: arrays (N, ...) by their names in batches, of the shapes and types that `TaskInputs` lists.
          class_names: in the order of the labels; None takes the numbers up to the largest label.
          name: what messages call it.
          process_index: which host this is.
          process_count: how many hosts share each batch.

        Raises:
          UserError: the arrays do not fit each other or the batch.
        """
        if images.dtype != np.uint8 or images.ndim != 4:
            raise UserError(f"images are {images.dtype} {images.shape}; expected uint8 (N, H, W, C)")
        if labels is not None:
            labels = np.asarray(labels, np.int32)
            if labels.shape != images.shape[:1]:
                raise UserError(f"labels are {labels.shape} for {len(images)} images; expected one each")
            if class_names is None:
                class_names = [str(label) for label in range(labels.max(initial=-1) + 1)]
            if not np.isin(labels, np.arange(len(class_names))).all():
                raise UserError(
                    f"labels go from {labels.min()} to {labels.max()}; expected 0 to {len(class_names) - 1}"
                )
        for name, values in (inputs or {}).items():
            if name not in TYPES or values.dtype != TYPES[name] or len(values) != len(images):
                expected = ", ".join(f"{known} {dtype}" for known, dtype in TYPES.items())
                raise UserError(
                    f"the input {name!r} is {values.dtype} {values.shape} for {len(images)} images; expected one row "
                    f"each of {expected}"
                )
        records = {"image": images} if labels is None else {"image": images, "label": labels}
        records |= inputs or {}
        names = () if labels is None else tuple(class_names)
        super().__init__(records, names, batch_size, seed, name, process_index, process_count)


class CodeDataset(_InMemory):
    """Semantic codes in batches {"code": (b, D) float32, "index"}, to train a latent prior on."""

    def __init__(
        self,
        codes: np.ndarray,
        batch_size: int,
        seed: int,
        *,
        name: str = "codes",
        process_index: int = 0,
        process_count: int = 1,
    ):
        """Arguments as those of `ArrayDataset`, but `codes` (N, D) float32."""
        if codes.dtype != np.float32 or codes.ndim != 2:
            raise UserError(f"codes are {codes.dtype} {codes.shape}; expected float32 (N, D)")
        super().__init__({"code": codes}, (), batch_size, seed, name, process_index, process_count)
