"""Decoding with the rows of images over several devices."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from report import Row

from ldm.lab import SEED, Lab
from ldm.scales import diffusion_config
from ldm.speed import random_frozen
from pdm_jax.config import MeshConfig
from pdm_jax.ops.images import to_uint8
from pdm_jax.parallel import image_sharding, make_mesh, on_mesh
from pdm_jax.systems import make_system

_FACTOR = 4


def run(lab: Lab, out: Path) -> list[Row]:
    """Memory that decoding one large image takes on each of 1, 2, 4, ... devices, by XLA's analysis, and its error.

    The image is four times the size whose speed is measured. `off` is the largest difference, in grey levels, to the
    image of one device; all devices that there are take part (on a CPU,
    XLA_FLAGS=--xla_force_host_platform_device_count=4 makes four).
    """
    config = diffusion_config(lab.scale, _FACTOR, size=4 * lab.scale.speed_size)
    system = make_system(config)
    frozen, z = random_frozen(config, system), np.random.default_rng(SEED).standard_normal((1, *system.image_shape))
    rows, images = [], []
    for count in (2**i for i in range(len(jax.devices()).bit_length())):
        mesh = make_mesh(MeshConfig(data=1, space=count), jax.devices()[:count])
        places = image_sharding(mesh)
        decode = jax.jit(
            on_mesh(lambda z: to_uint8(system.space.decode(frozen, z)), mesh), in_shardings=places, out_shardings=places
        )
        compiled = decode.lower(z.astype(np.float32)).compile()
        images.append(np.asarray(compiled(jax.device_put(z.astype(np.float32), places))).astype(int))
        rows.append(
            {
                "devices": count,
                "image": "x".join(map(str, images[0].shape[1:3])),
                "MiB a device": compiled.memory_analysis().temp_size_in_bytes / 2**20,
                "off": int(np.abs(images[-1] - images[0]).max()),
            }
        )
    return rows
