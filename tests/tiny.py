"""The smallest run that has every part: random grey images, two classes, a grid of 2x2 patches."""

import numpy as np

from pdm_jax.config import Config, read
from pdm_jax.data import ArrayDataset

SETTINGS = {
    "data": {"source": "memory", "image_size": 4, "channels": 1, "batch_size": 8},
    "model": {
        "system": "pdm",
        "patch_size": 2,
        "num_classes": 2,
        "network": {"width": 32, "channel_mult": (1,), "num_blocks": 1, "head_dim": 32},
    },
    "loss": {"vlb_weight": 1.0, "t_max": 999, "label_dropout": 0.1},
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 2, "clip_norm": 100.0},
    "ema": {"decay": 0.9},
    "train": {"num_steps": 6, "log_every": 2, "grid_every": None, "grid_size": 4},
    "checkpoint": {"save_every": 3},
    "sample": {"sampler": "ddim", "steps": "4"},
}


def config(**groups) -> Config:
    """The tiny config with some settings of its groups changed: config(train={"num_steps": 2}, seed=1)."""
    values = {name: dict(group) for name, group in SETTINGS.items()}
    for name, group in groups.items():
        values[name] = {**values.get(name, {}), **group} if isinstance(group, dict) else group
    return read(Config, values)


def dataset(config: Config, num: int = 24) -> ArrayDataset:
    """Bright and dark noise, by class."""
    generator = np.random.default_rng(0)
    labels = np.arange(num) % 2
    size, channels = config.data.image_size, config.data.channels
    images = generator.integers(0, 128, (num, size, size, channels)) + 127 * labels[:, None, None, None]
    return ArrayDataset(images.astype(np.uint8), labels, config.data.batch_size, config.seed)
