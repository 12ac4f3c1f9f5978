"""What a run is about to train, said once at its start."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from pdm_jax.networks import count_params
from pdm_jax.systems import Part, System

logger = logging.getLogger(__name__)


def describe(part: Part, system: System, dataset: Any, mesh: Mesh, workdir: Path) -> None:
    """Logs the data, the size of the model and the mesh; writes each parameter's row to `parameters.txt`.

    The table is made by clu and left out where clu is not installed.
    """
    if jax.process_index() != 0:
        return
    table = ""
    if importlib.util.find_spec("clu") is not None:
        from clu import parameter_overview

        path = workdir / "parameters.txt"
        path.write_text(parameter_overview.get_parameter_overview(system.shapes, include_stats=False) + "\n")
        table = f" (table: {path})"
    height, width, channels = system.space.picture
    axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    device = jax.devices()[0]
    logger.info("data: %s, %d images, %dx%dx%d", dataset.name, dataset.num_records, height, width, channels)
    serves = f", {part.name} (steps {part.start} to {part.stop - 1})" if part.name else ""
    system_name, size = part.config.model.system, f"{count_params(system.shapes):,}"
    logger.info("model: %s%s, %s parameters%s", system_name, serves, size, table)
    logger.info("devices: %d %s, mesh %s", mesh.devices.size, device.device_kind, axes)
