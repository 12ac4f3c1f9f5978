"""latent-diffusion's state dict of a U-Net to our parameters and back; both ways are exact.

Names are without the prefix `model.diffusion_model.` that they have in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pdm_jax.interop import adm, named
from pdm_jax.interop.entries import Entry
from pdm_jax.interop.matching import Shape
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Params

# Our layer, its name there, and the rank of its weight there; in the order of the official files.
_TRANSFORMER_IN: adm.Layers = (("norm", "norm", 1), ("dense_in", "proj_in", 4))
_TRANSFORMER_OUT: adm.Layers = (("dense_out", "proj_out", 4),)
_ATTENTION: adm.Layers = (("q", "to_q", 2), ("k", "to_k", 2), ("v", "to_v", 2), ("out", "to_out.0", 2))
_MLP: adm.Layers = (("mlp_in", "ff.net.0.proj", 2), ("mlp_out", "ff.net.2", 2))
_NORMS: adm.Layers = (("norm_self", "norm1", 1), ("norm_cross", "norm2", 1), ("norm_mlp", "norm3", 1))


def load(tensors: Mapping[str, np.ndarray], definition: Definition) -> Params:
    """Parameters from the program's tensors.

    Args:
      tensors: the state dict, as numpy arrays.
      definition: of an `LDMUNet`, with the settings of `ldm_unet_config.translate`.

    Returns:
      A nested dict of float32 numpy arrays like `definition.shapes`.

    Raises:
      UserError: tensors are missing, surplus or misshapen; lists them by their names there.
    """
    return named.load(tensors, definition, layout(definition.shapes))


def to_official(params: Params, definition: Definition) -> dict[str, np.ndarray]:
    """The inverse of `load`: the state dict, in its order."""
    return named.to_official(params, layout(definition.shapes))


def official_shapes(definition: Definition) -> dict[str, Shape]:
    """Names and shapes of the program's state dict, in its order."""
    return named.official_shapes(definition, layout(definition.shapes))


def layout(shapes: Params) -> list[Entry]:
    """All tensors of an `LDMUNet` in the official order, from the nested dict of its shapes."""
    return adm.layout(shapes, _layer)


def _layer(tree: Params, path: tuple, prefix: str) -> Iterator[Entry]:
    if "blocks" not in tree:
        yield from adm.plain_layer(tree, path, prefix)
        return
    yield from adm.layers(tree, path, prefix, _TRANSFORMER_IN)
    for i, block in sorted(tree["blocks"].items()):
        place, name = (*path, "blocks", i), f"{prefix}transformer_blocks.{i}."
        yield from adm.layers(block["attend_self"], (*place, "attend_self"), f"{name}attn1.", _ATTENTION)
        yield from adm.layers(block, place, name, _MLP)
        yield from adm.layers(block["attend_cross"], (*place, "attend_cross"), f"{name}attn2.", _ATTENTION)
        yield from adm.layers(block, place, name, _NORMS)
    yield from adm.layers(tree, path, prefix, _TRANSFORMER_OUT)
