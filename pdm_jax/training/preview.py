"""Pictures during training: what the averaged weights make of the same noise and labels each time."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from pdm_jax.data import Dataset
from pdm_jax.ops.images import grid, to_uint8
from pdm_jax.parallel import replicated
from pdm_jax.pipelines.generate import choose_labels, generate, make_generate
from pdm_jax.pipelines.told import of_data
from pdm_jax.systems import Part, System
from pdm_jax.types import Params

Preview = Callable[[Params], np.ndarray]  # averaged weights -> a grid of images (H, W, C) uint8


def make_preview(part: Part, system: System, mesh: Mesh, dataset: Dataset) -> Preview:
    """The preview of a part; compiled when it is first called.

    The noisiest part samples from noise as far as its steps go and shows the x0 it predicts there. Another part
    denoises images of the data, noised to where its steps begin. Codes, captions and the like are those of the data's
    first images. A first stage shows what it makes of these.
    """
    config, num = part.config, part.config.train.grid_size
    if system.reconstruct is not None:
        return _reconstructions(system, mesh, dataset, num)
    whole = part.start == 0 and part.stop == system.process.num_steps
    run = make_generate(system, config.sample, mesh, steps=None if whole else (part.start, part.stop))
    is_noisiest = part.stop == system.process.num_steps
    labels = choose_labels("cycle", num, system.num_classes)
    encode = None if system.codes is None else jax.jit(system.codes, out_shardings=replicated(mesh))
    (begins,), of_records = system.space.inputs, of_data(system)

    def preview(params: Params) -> np.ndarray:
        batch = {} if is_noisiest and encode is None and not of_records else _first_images(dataset, num)
        images, shown = (None, labels) if is_noisiest else (batch[begins], batch.get("label"))
        told = {name: batch[name] for name in of_records} | ({"label": shown} if system.num_classes else {})
        if encode is not None:
            told["code"] = np.asarray(encode(params, {"image": batch["image"], "index": batch["index"]}))
        batches = generate(run, params, config.seed, num, told, mesh, batch_size=num, images=images)
        return grid(np.concatenate(list(batches)), labels if is_noisiest else told.get("label"))

    return preview


def _reconstructions(system: System, mesh: Mesh, dataset: Dataset, num: int) -> Preview:
    """The preview of a first stage: images of the data, and to the right of each what it makes of them."""
    run = jax.jit(lambda params, images: to_uint8(system.reconstruct(params, images)), out_shardings=replicated(mesh))

    def preview(params: Params) -> np.ndarray:
        images = _first_images(dataset, num)["image"]
        return grid(np.concatenate([images, np.asarray(run(params, images))], axis=2))

    return preview


def _first_images(dataset: Dataset, num: int) -> dict[str, np.ndarray]:
    """The first records of the data's order, gone round if they are too few; the same on all hosts."""
    from jax.experimental import multihost_utils

    stream = dataset.stream(0)
    try:
        batch = next(stream)
    finally:
        stream.close()
    rows = np.arange(num) % len(batch["index"])
    batch = {name: values[rows] for name, values in batch.items()} | {"index": batch["index"][rows].astype(np.int32)}
    return multihost_utils.broadcast_one_to_all(batch) if jax.process_count() > 1 else batch
