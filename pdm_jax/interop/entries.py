"""One tensor in our parameters and in a PyTorch state dict, and the way between the two."""

from __future__ import annotations

import dataclasses

import numpy as np

from pdm_jax.interop.matching import Shape


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor."""

    path: tuple[str | int, ...]  # in our parameters
    torch_name: str  # in the state dict
    torch_rank: int  # of the tensor there: where it has a 1x1 convolution a dense kernel ends in ones

    @property
    def name(self) -> str:
        """Our path with dots."""
        return ".".join(map(str, self.path))

    def torch_shape(self, shape: Shape) -> Shape:
        """Features of output and input come first there: HWIO to OIHW, (in, out) to (out, in) and trailing ones."""
        if self.path[-1] != "kernel":
            return shape
        turned = (shape[-1], shape[-2], *shape[:-2])
        return turned + (1,) * (self.torch_rank - len(turned))

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Our array as it is there."""
        if self.path[-1] != "kernel":
            return array
        return np.ascontiguousarray(np.moveaxis(array, (-1, -2), (0, 1)).reshape(self.torch_shape(array.shape)))

    def from_torch(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """The array there in our `shape`."""
        if self.path[-1] != "kernel":
            return array
        return np.moveaxis(array.reshape(array.shape[: len(shape)]), (0, 1), (-1, -2))


def path_of(keys) -> tuple[str | int, ...]:
    """A path of `jax.tree.leaves_with_path` through nested dicts as plain keys."""
    return tuple(key.key for key in keys)
