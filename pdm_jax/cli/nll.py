"""`pdm eval --nll`: how many bits a pixel and colour of real images costs under a run's model."""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import numpy as np

from pdm_jax import rng
from pdm_jax.cli.sampling import Sampling
from pdm_jax.errors import UserError
from pdm_jax.evaluation.image_sets import ImageSet, as_trained
from pdm_jax.parallel import num_batch_shards
from pdm_jax.pipelines.likelihood import make_bits


def measure_nll(args: argparse.Namespace, sampling: Sampling, bar: Any) -> tuple[dict[str, float], dict[str, Any]]:
    """The variational bound over all steps, or over `--steps` if they were given, as scores and facts.

    Raises:
      UserError: the model has no variance, or the images do not fit it.
    """
    system, mesh = sampling.model.system, sampling.mesh
    steps = args.steps or system.process.num_steps
    bits = make_bits(system, sampling.sampling, mesh, steps=steps)
    images = _open_images(args, sampling)
    shares = num_batch_shards(mesh)
    batch_size = -(-min(args.batch_size, len(images)) // shares) * shares
    key = np.asarray(jax.random.key_data(rng.stream(jax.random.key(args.seed), "nll")))
    totals, priors, start = [], [], time.perf_counter()
    with bar("nll", len(images)) as progress:
        for batch in images.batches(batch_size):
            index, image = (_filled(batch[name], batch_size) for name in ("index", "image"))
            labels = _filled(batch["label"], batch_size) if system.num_classes else None
            bound = jax.device_get(bits(sampling.model.params, key, index.astype(np.int32), image, labels))
            count = len(batch["image"])
            totals.append(bound.total[:count])
            priors.append(bound.prior[:count])
            progress(count)
    total = np.concatenate(totals).astype(np.float64)
    scores = {
        "nll": float(total.mean()),
        "nll_error": float(total.std() / np.sqrt(len(total))),
        "nll_prior": float(np.concatenate(priors).mean(dtype=np.float64)),
    }
    seconds = round(time.perf_counter() - start, 1)
    return scores, {"reference": images.name, "num": len(images), "steps": str(steps), "seconds": seconds}


def _open_images(args: argparse.Namespace, sampling: Sampling) -> ImageSet:
    """The real images, read as the run read its data, with labels where its model has classes."""
    config, data = sampling.config, sampling.config.data
    spec, split = args.reference or config.eval.source or data.source, config.eval.split or data.split
    settings = {"split": split, **as_trained(data)}
    num = args.num or min(config.eval.num, len(ImageSet(spec, **settings)))
    images = ImageSet(spec, num=num, **settings)
    num_classes = sampling.model.system.num_classes
    if num_classes and images.num_classes != num_classes:
        raise UserError(
            f"{spec} has {images.num_classes} classes and the model {num_classes}; "
            "give a --reference with the classes it was trained on"
        )
    return images


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    """An array (b, ...) with its last row repeated up to `size` rows."""
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
