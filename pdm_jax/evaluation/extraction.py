"""Images through a frozen network on all devices of this host, one batch ahead of whoever uses the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from pdm_jax.config import MeshConfig
from pdm_jax.errors import UserError
from pdm_jax.evaluation.networks import FeatureNetwork, PerceptualNetwork
from pdm_jax.parallel import batch_sharding, make_mesh, replicated


class Extractor:
    """A network over batches of images of any size; each new size is compiled once."""

    def __init__(self, network: FeatureNetwork | PerceptualNetwork, batch_size: int = 64):
        """Places the parameters on this host's devices; `batch_size` is rounded up to a multiple of them."""
        mesh = make_mesh(MeshConfig(), jax.local_devices())
        self.network = network
        self.batch_size = -(-batch_size // mesh.devices.size) * mesh.devices.size
        self._sharding = batch_sharding(mesh)
        self._params = jax.device_put(network.params, replicated(mesh))
        self._apply = jax.jit(network.apply)

    def __call__(self, batches: Iterable[tuple[np.ndarray, ...]]) -> Iterator[Any]:
        """What the network makes of each batch, as numpy arrays with a row an image.

        Args:
          batches: the network's image arguments, each uint8 (b, H, W, C) with b at most `batch_size`.

        Raises:
          UserError: images are smaller than the network can take.
        """
        waiting = None
        for images in batches:
            check_size(images[0].shape, self.network.least_size, self.network.name)
            started = self._start(images)
            if waiting is not None:
                yield _fetch(*waiting)
            waiting = started
        if waiting is not None:
            yield _fetch(*waiting)

    def _start(self, images: tuple[np.ndarray, ...]) -> tuple[Any, int]:
        count = len(images[0])
        # A batch that is not full is filled up, so that only one size of batch is compiled.
        padding = [(0, self.batch_size - count), (0, 0), (0, 0), (0, 0)]
        placed = [jax.device_put(np.pad(array, padding), self._sharding) for array in images]
        return self._apply(self._params, *placed), count


def check_size(shape: tuple[int, ...], least: int, name: str) -> None:
    """Raises a `UserError` where images (..., H, W, C) have a side below `least`."""
    height, width = shape[-3:-1]
    if min(height, width) < least:
        raise UserError(f"{name} needs images of at least {least}x{least} pixels, these are {width}x{height}")


def consume(batches: Iterable[Mapping[str, np.ndarray]], progress: Callable[[int], None]) -> Iterator[Any]:
    """Passes batches on and tells `progress` how many images each had."""
    for batch in batches:
        yield batch
        progress(len(batch["image"]))


def _fetch(results: Any, count: int) -> Any:
    return jax.tree.map(lambda array: np.asarray(array)[:count], results)
