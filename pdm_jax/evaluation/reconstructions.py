"""What a first stage of latent diffusion makes of images, computed as they are asked for."""

from __future__ import annotations

import collections
from collections.abc import Iterator

import jax

from pdm_jax.errors import UserError
from pdm_jax.evaluation.extraction import Extractor
from pdm_jax.evaluation.image_sets import Batch, ImageSet
from pdm_jax.evaluation.networks import FeatureNetwork
from pdm_jax.ops.images import to_uint8
from pdm_jax.pipelines.restore import Model
from pdm_jax.types import Array, Params


class Reconstructions:
    """Images as a first stage draws them again, each as its original is called; in the place of an `ImageSet`."""

    def __init__(self, originals: ImageSet, model: Model):
        """Takes the originals, all of them, and a run's weights.

        Raises:
          UserError: the run is of no first stage.
        """
        reconstruct = model.system.reconstruct
        if reconstruct is None:
            raise UserError("only a first stage reconstructs images; the run is of another model")

        def apply(params: Params, images: Array) -> dict[str, Array]:
            return {"image": to_uint8(reconstruct(params, images))}

        # Hosts read different images, so each computes on its own devices.
        self._network = FeatureNetwork("first stage", jax.device_get(model.params), apply, {}, "none")
        self._originals, self.name, self.image_shape = originals, originals.name, originals.image_shape

    def __len__(self) -> int:
        return len(self._originals)

    def batches(self, batch_size: int, process_index: int = 0, process_count: int = 1) -> Iterator[Batch]:
        """This host's reconstructions, as `ImageSet.batches` gives the originals."""
        read: collections.deque[Batch] = collections.deque()

        def images() -> Iterator[tuple]:
            for batch in self._originals.batches(batch_size, process_index, process_count):
                read.append(batch)
                yield (batch["image"],)

        for found in Extractor(self._network, batch_size)(images()):
            yield read.popleft() | found
