"""Patching, a split model and feature collage on the latents of LDM-4."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from report import Row

from ldm.lab import Lab
from ldm.scales import Scale, diffusion_config
from ldm.speed import measure
from pdm_jax.config import Config, LossConfig, SplitConfig

_FACTOR = 4
_BOUNDARY = 500  # of the split


def run(lab: Lab, out: Path) -> list[Row]:
    """What patches, two networks and collage cost in training and sampling, measured and compared as in `speed`.

    A training step of the split model is one of each half.
    """
    return measure(lab, configs(lab.scale))


def configs(scale: Scale) -> Mapping[str, Config]:
    """LDM-4 and what it becomes, by name; patches of latents are of 2x2 places, those of collage a quarter of all."""
    size = scale.speed_size
    network = scale.networks[_FACTOR]
    base = diffusion_config(scale, _FACTOR, size=size)
    patched = diffusion_config(scale, _FACTOR, size=size, model={"patch_size": 2})
    halves = diffusion_config(scale, _FACTOR, size=size, model={"patch_size": (2, 1)})
    shape = {name: network[name] for name in ("width", "channel_mult", "num_blocks")}
    pdm = {"system": "pdm", "backbone": "pdm_unet", "network": {**shape, "head_dim": 32, "learn_variance": False}}
    own = {**shape, "channel_mult": network["channel_mult"][:1], "embed_dim": shape["width"]}
    collage = {"system": "patch_dm", "backbone": "patch_unet", "network": own, "patch_size": size // _FACTOR // 2}
    return {
        "LDM-4": base,
        "LDM-4, P = 2": patched,
        "PDM of latents, P = 2": diffusion_config(scale, _FACTOR, size=size, model={**pdm, "patch_size": 2}),
        "LDM-4 in halves, P = 2 and 1": dataclasses.replace(halves, split=SplitConfig(boundaries=_BOUNDARY)),
        "feature collage of latents": dataclasses.replace(
            diffusion_config(scale, _FACTOR, size=size, model=collage), loss=LossConfig("both", target="eps")
        ),
    }
