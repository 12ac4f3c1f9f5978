"""Training of the local feature network on a data set's own images, by their labels or without.

Two things are asked of one linear head. What the image shows: its class; or, without labels, by how many quarters it
was turned (Gidaris et al. 2018) and which of the other views in the batch is of the same image (SimCLR's loss, Chen et
al. 2020), both views being turned alike so that the tasks agree. And how it was degraded: how much blur, noise and
quantisation it bears, as a network that learns the first alone stops seeing what sets good samples from bad ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pdm_jax import rng
from pdm_jax.data import Dataset
from pdm_jax.evaluation.local_views import DEGRADATIONS, TURNS, crop, degrade, expose, turn
from pdm_jax.networks.feature_net import FeatureNet
from pdm_jax.networks.functional import Definition
from pdm_jax.types import Array, Params

RECIPE = {
    "version": 1,  # of this code, the views and the network: a change that moves the result gets a new number
    "steps": 300,
    "views": 128,  # in a batch; without labels two of each image
    "learning_rate": 2e-3,
    "label_smoothing": 0.1,
    "degradation_weight": 5.0,
    "projection": 64,  # features compared between views
    "temperature": 0.2,
}


def head_features(num_classes: int) -> int:
    """Numbers that the head gives an image: the degradations first, then the classes, or turn and projection."""
    return DEGRADATIONS + (num_classes or TURNS + RECIPE["projection"])


def train(
    definition: Definition, dataset: Dataset, num_classes: int, seed: int, progress: Callable[[Iterable], Iterable]
) -> Params:
    """Trained parameters, the same for the same data and seed.

    Args:
      definition: of a `FeatureNet` with `head_features(num_classes)`.
      dataset: read by this process alone.
      num_classes: of the labels to learn from; 0 learns without.
      seed: of the parameters and the views.
      progress: wraps the iteration over the steps.
    """
    optimizer = optax.adam(_rate)
    loss = _labelled_loss if num_classes else _unlabelled_loss

    def step(params: Params, opt_state: optax.OptState, batch: Mapping[str, Array], key: Array):
        gradient = jax.grad(lambda params: loss(definition.bind(params), batch, key))(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(params, updates), opt_state

    step = jax.jit(step, donate_argnums=(0, 1))
    params_key, views_key = (rng.stream(jax.random.key(seed), name) for name in ("params", "views"))
    params = jax.jit(definition.init)(params_key)
    opt_state = optimizer.init(params)
    num_images = min(RECIPE["views"] // (1 if num_classes else 2), dataset.num_records)
    names = ("image", "label") if num_classes else ("image",)
    with contextlib.closing(_batches(dataset, num_images, names)) as batches:
        for i in progress(range(RECIPE["steps"])):
            params, opt_state = step(params, opt_state, next(batches), jax.random.fold_in(views_key, i))
    return params


def _rate(count: Array) -> Array:
    """Linear warm-up over a tenth of the steps, under a cosine that ends at 0."""
    done = count.astype(jnp.float32) / RECIPE["steps"]
    return RECIPE["learning_rate"] * jnp.minimum(10 * done, 0.5 + 0.5 * jnp.cos(jnp.pi * done))


def _batches(dataset: Dataset, size: int, names: tuple[str, ...]) -> Generator[dict[str, np.ndarray]]:
    """The stream of the data set, whatever its own batches, in batches of `size`."""
    waiting = {name: [] for name in names}
    with contextlib.closing(iter(dataset)) as stream:
        for batch in stream:
            for name in names:
                waiting[name].extend(batch[name])
            while len(waiting["image"]) >= size:
                yield {name: np.stack(held[:size]) for name, held in waiting.items()}
                waiting = {name: held[size:] for name, held in waiting.items()}


def _labelled_loss(network: FeatureNet, batch: Mapping[str, Array], key: Array) -> Array:
    keys = jax.random.split(key)
    x, strength = degrade(crop(network.prepare(batch["image"]), keys[0]), keys[1])
    degradation, logits = jnp.split(network(x).head, [DEGRADATIONS], axis=-1)
    classes = optax.smooth_labels(jax.nn.one_hot(batch["label"], logits.shape[-1]), RECIPE["label_smoothing"])
    return optax.softmax_cross_entropy(logits, classes).mean() + _degradation_loss(degradation, strength)


def _unlabelled_loss(network: FeatureNet, batch: Mapping[str, Array], key: Array) -> Array:
    keys = jax.random.split(key, 6)
    x, turns = turn(network.prepare(batch["image"]), keys[0])
    views = [expose(crop(x, keys[1 + i]), keys[3 + i]) for i in range(2)]
    x, strength = degrade(jnp.concatenate(views), keys[5])
    degradation, turn_logits, projection = jnp.split(network(x).head, [DEGRADATIONS, DEGRADATIONS + TURNS], axis=-1)
    turn_loss = optax.softmax_cross_entropy_with_integer_labels(turn_logits, jnp.tile(turns, 2)).mean()
    return turn_loss + _same_image_loss(projection) + _degradation_loss(degradation, strength)


def _same_image_loss(projection: Array) -> Array:
    """Views (2 B, D), the second half of the same images as the first: each is to find the other one of its image."""
    count = len(projection)
    unit = projection / (jnp.linalg.norm(projection, axis=-1, keepdims=True) + 1e-6)
    similarity = unit @ unit.T / RECIPE["temperature"] - 1e9 * jnp.eye(count)  # none finds itself
    others = jnp.roll(jnp.arange(count), count // 2)
    return optax.softmax_cross_entropy_with_integer_labels(similarity, others).mean()


def _degradation_loss(found: Array, strength: Array) -> Array:
    return RECIPE["degradation_weight"] * jnp.square(found - strength).mean()
