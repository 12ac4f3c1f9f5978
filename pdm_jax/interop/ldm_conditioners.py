"""latent-diffusion's state dicts of what makes its conditions to our parameters and back; both ways are exact.

Names are without the prefix `cond_stage_model.` that they have in a checkpoint. The text encoder's `to_logits`, which
the program never uses, is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pdm_jax.interop import adm, named
from pdm_jax.interop.entries import Entry
from pdm_jax.interop.matching import Shape
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Params

_UNUSED = "transformer.to_logits."
# Our layer, its name there, and the rank of its weight there; in the order of the official files.
_TOP: adm.Layers = (
    ("label_embedding", "embedding", 2),  # of a class
    ("mapper", "channel_mapper", 4),  # of a map
    ("token_embedding", "transformer.token_emb", 2),
    ("position_embedding", "transformer.pos_emb.emb", 2),
)
_ATTENTION: adm.Layers = (("q", "to_q", 2), ("k", "to_k", 2), ("v", "to_v", 2), ("out", "to_out", 2))
_MLP: adm.Layers = (("mlp_in", "net.0.0", 2), ("mlp_out", "net.2", 2))


def load(tensors: Mapping[str, np.ndarray], definition: Definition) -> Params:
    """Parameters from the program's tensors.

    Args:
      tensors: the state dict, as numpy arrays.
      definition: of a `TokenEncoder`, a `ClassEmbedder` or a `SpatialRescaler`, with the settings of
        `ldm_conditioners_config.translate`.

    Returns:
      A nested dict of float32 numpy arrays like `definition.shapes`.

    Raises:
      UserError: tensors are missing, surplus or misshapen; lists them by their names there.
    """
    used = {name: tensor for name, tensor in tensors.items() if not name.startswith(_UNUSED)}
    return named.load(used, definition, layout(definition.shapes))


def to_official(params: Params, definition: Definition) -> dict[str, np.ndarray]:
    """The inverse of `load`: the state dict without `to_logits`, in its order."""
    return named.to_official(params, layout(definition.shapes))


def official_shapes(definition: Definition) -> dict[str, Shape]:
    """Names and shapes of the program's state dict without `to_logits`, in its order."""
    return named.official_shapes(definition, layout(definition.shapes))


def layout(shapes: Params) -> list[Entry]:
    """All tensors of a network, from the nested dict of its shapes."""
    entries = [*adm.layers(shapes, (), "", _TOP)]
    for i, layer in sorted(shapes.get("layers", {}).items()):
        place = ("layers", i)
        attention, mlp = (f"transformer.attn_layers.layers.{2 * i + part}." for part in (0, 1))
        entries += adm.layers(layer, place, attention, (("norm_attention", "0", 1),))
        entries += adm.layers(layer["attention"], (*place, "attention"), f"{attention}1.", _ATTENTION)
        entries += adm.layers(layer, place, mlp, (("norm_mlp", "0", 1),))
        entries += adm.layers(layer, place, f"{mlp}1.", _MLP)
    return [*entries, *adm.layers(shapes, (), "", (("norm_out", "transformer.norm", 1),))]
