"""VGG16 (Simonyan and Zisserman 2014, arXiv 1409.1556) up to what metrics read, as torchvision has it."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx

from pdm_jax.networks.frozen import ConvRelu, DenseRelu, max_pool
from pdm_jax.types import Array

SIZE = 224  # pixels of a side for the classifier
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
CLASSIFIER = 4096
LEAST_SIZE = 16  # from here on the last stage has a pixel


class VGG16(nnx.Module):
    """The convolutions, and the two hidden layers of the classifier where asked for.

    Args:
      use_classifier: whether the network can be called; it has 120 M of the parameters.
      dtype: of the convolutions.
    """

    def __init__(self, *, use_classifier: bool = False, dtype=jnp.float32, rngs: nnx.Rngs):
        features, stages = 3, []
        for widths in STAGES:
            convs = []
            for width in widths:
                convs.append(ConvRelu(features, width, (3, 3), dtype=dtype, rngs=rngs))
                features = width
            stages.append(nnx.List(convs))
        self.stages = nnx.List(stages)
        self.fc1 = DenseRelu(7 * 7 * features, CLASSIFIER, rngs=rngs) if use_classifier else None
        self.fc2 = DenseRelu(CLASSIFIER, CLASSIFIER, rngs=rngs) if use_classifier else None

    def taps(self, x: Array) -> tuple[Array, ...]:
        """Normalised x (B, H, W, 3) to relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3, each half as large."""
        found = []
        for i, convs in enumerate(self.stages):
            x = max_pool(x, 2, 2) if i else x
            for conv in convs:
                x = conv(x)
            found.append(x)
        return tuple(found)

    def __call__(self, x: Array) -> Array:
        """Normalised x (B, 224, 224, 3) to the classifier's second hidden layer (B, 4096) after ReLU."""
        h = max_pool(self.taps(x)[-1], 2, 2)  # (B, 7, 7, 512)
        return self.fc2(self.fc1(h.reshape(h.shape[0], -1)))
