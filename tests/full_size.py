"""The five released networks of PDM, from the configs that the key lists carry."""

import functools
import json
from pathlib import Path
from typing import Any

from pdm_jax.interop.pdm_config import translate
from pdm_jax.networks import PDMUNet, define
from pdm_jax.networks.functional import Definition

NAMES = ("church_p2", "church_p4", "church_p8", "imagenet", "ffhq")
_KEYS = Path(__file__).parent / "golden" / "keys"


def keys(name: str) -> dict[str, Any]:
    """The official config, parameter counts, and names and shapes of all tensors."""
    return json.loads((_KEYS / f"pdm_{name}.json").read_text())


def torch_rows(name: str) -> list[tuple[str, list[int], str]]:
    """Name and shape of each tensor in the PyTorch program, and its name in the TensorFlow program."""
    return json.loads((_KEYS / f"pdm_torch_{name}.json").read_text())["rows"]


@functools.cache
def definition(name: str) -> Definition:
    """The network without its numbers; shared by tests, as even shapes take seconds."""
    network, _ = translate(keys(name)["config"])
    return define(lambda rngs: PDMUNet(**network, rngs=rngs))
