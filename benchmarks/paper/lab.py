"""What the parts share: one data set in memory, and small networks that are each trained on it once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import numpy as np
from tqdm import tqdm

from pdm_jax.config import Config, DataConfig, EmaConfig, LossConfig, MeshConfig, ModelConfig, OptimizerConfig
from pdm_jax.data import ArrayDataset, make_dataset
from pdm_jax.errors import UserError
from pdm_jax.ops.images import to_float
from pdm_jax.parallel import make_mesh
from pdm_jax.systems import System, make_system
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.state import plan_state
from pdm_jax.training.step import make_train_step, put
from pdm_jax.types import Array, Cond, Params, Step

# Base width, channel_mult and blocks a level of each patch size. As in the paper's table 3, networks of larger patches
# start wider, all end on the same grid (4x4 for 32x32 images), and all have about as many parameters: 1 to 1.2 million.
NETWORKS = {1: (32, (1, 1, 2, 2), 1), 2: (32, (1, 2, 2), 1), 4: (64, (1, 1), 1), 8: (64, (1,), 2)}
SEED = 0


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is computed."""

    image_size: int  # a multiple of 8
    num_images: int  # at most, of the training set
    num_held_out: int  # never trained on; as many samples are made
    num_steps: int  # of the networks that draw and are compared
    num_curve_steps: int  # of the networks whose first losses are compared
    memory_size: int  # side of the image whose memory is measured
    batch_size: int = 32


SCALES = {
    "smoke": Scale(16, 64, 32, 4, 4, 128, batch_size=8),
    "small": Scale(32, 8000, 512, 600, 150, 1024),
    "large": Scale(64, 50_000, 4096, 50_000, 3000, 1024, batch_size=128),
}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network after its training."""

    system: System
    params: Params  # averaged weights
    losses: np.ndarray  # [steps] of the batch
    x0: Callable[[Array, int], Array]  # (z_t (B, S, S, 3), t) -> x0_hat (B, S, S, 3) float32
    images_per_s: float  # of training, without compilation


class Lab:
    """Images, and networks that are trained when they are first asked for.

    Attributes:
      images: (N, S, S, 3) uint8, the training set.
      labels: [N], or None.
      held_out: (M, S, S, 3) uint8.
    """

    def __init__(self, source: str, scale: Scale):
        """Reads the data; raises `UserError` where there is too little."""
        self.scale, self.name = scale, source.rpartition("/")[2]
        self.mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        images, labels = _read(source, scale)
        count = len(images) - scale.num_held_out
        self.images, self.held_out = images[:count], images[count:]
        self.labels = None if labels is None else labels[:count]

    @property
    def title(self) -> str:
        """The data, for titles."""
        return f"{self.name}, {self.scale.image_size}x{self.scale.image_size}"

    def network(self, patch_size: int) -> Trained:
        """A network of the full number of steps that predicts x0 under the paper's loss."""
        return self.train(patch_size, "x0", "sqrt_snr", self.scale.num_steps)

    @functools.cache  # noqa: B019 a lab lives as long as its process
    def train(self, patch_size: int, prediction: str, loss: str, num_steps: int) -> Trained:
        """Trains a network; images, steps t and noise are the same for all.

        Args:
          prediction: what it puts out: "x0", "eps" or "v".
          loss: "sqrt_snr" (the paper's) or "mse" (of what it puts out).
        """
        data = DataConfig("memory", self.scale.image_size, self.scale.batch_size)
        config = make_config(data, patch_size, prediction, loss)
        system, optimizer = make_system(config), make_optimizer(config.optimizer)
        plan = plan_state(system, optimizer, config.ema, self.mesh)
        step = make_train_step(system, optimizer, config, self.mesh, plan)
        state, losses, done = plan.init(jax.random.key(SEED)), [], []
        with contextlib.closing(iter(ArrayDataset(self.images, None, self.scale.batch_size, SEED))) as batches:
            for _ in tqdm(range(num_steps), f"P={patch_size} {prediction} {loss}"):
                state, metrics = step(state, put(next(batches), system, self.mesh))
                losses.append(float(metrics["loss"]))
                done.append(time.perf_counter())
        return Trained(
            system,
            params := state.ema,
            np.array(losses),
            jax.jit(lambda z_t, t: system.denoiser(params)(z_t, Step(t=t), Cond()).x0),
            self.scale.batch_size / float(np.median(np.diff(done))),
        )


def make_config(data: DataConfig, patch_size: int, prediction: str = "x0", loss: str = "sqrt_snr") -> Config:
    """The paper's setting around a small network without variance head; Adam's rate is that of a short run."""
    width, channel_mult, num_blocks = NETWORKS[patch_size]
    network = {"width": width, "channel_mult": channel_mult, "num_blocks": num_blocks, "learn_variance": False}
    return Config(
        data=data,
        model=ModelConfig("pdm", network, patch_size=patch_size, prediction=prediction),
        loss=LossConfig(loss, target="x0" if loss == "sqrt_snr" else prediction, t_max=999),
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=100, b2=0.99),
        ema=EmaConfig(decay=0.99),
        seed=SEED,
    )


def noisy(system: System, x0: np.ndarray, t: int, seed: int = SEED) -> tuple[Array, Array]:
    """uint8 images (B, S, S, 3) as x0 in [-1, 1] and z_t; the noise is the same at every t."""
    x0 = to_float(x0)
    return x0, system.process.q_sample(x0, t, jax.random.normal(jax.random.key(seed), x0.shape))


def _read(source: str, scale: Scale) -> tuple[np.ndarray, np.ndarray | None]:
    """Different images in an order of their own, and their labels if there are any."""
    dataset = make_dataset(DataConfig(source, scale.image_size, scale.batch_size), SEED)
    wanted = min(dataset.num_records, scale.num_images + scale.num_held_out)
    if wanted < 2 * scale.num_held_out:
        raise UserError(f"{source} has {wanted} images; this scale needs at least {2 * scale.num_held_out}")
    found = []
    with contextlib.closing(dataset.stream(0)) as batches:
        while len(found) * scale.batch_size < wanted:
            found.append(next(batches))
    images, labels = (
        np.concatenate([batch[name] for batch in found])[:wanted] if name in found[0] else None
        for name in ("image", "label")
    )
    return images, labels
