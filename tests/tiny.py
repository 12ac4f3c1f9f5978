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


PATCH_DM = {
    "data": {"source": "memory", "image_size": (16, 24), "channels": 3, "batch_size": 8},
    "model": {
        "system": "patch_dm",
        "backbone": "patch_unet",
        "patch_size": 8,
        "prediction": "eps",
        "network": {"width": 32, "channel_mult": (1, 1), "num_blocks": 1, "embed_dim": 32, "dropout": 0.0},
    },
    "codes": {"kind": "table", "dim": 16},
    "loss": {"kind": "both", "target": "eps", "code_dropout": 0.1, "position_dropout": 0.5},
    "optimizer": {"learning_rate": 1e-3, "clip_norm": 1.0},
    "ema": {"decay": 0.9},
    "train": {"num_steps": 4, "log_every": 2, "grid_size": 4},
    "checkpoint": {"save_every": 2},
    "sample": {"sampler": "ddim", "steps": "4", "guidance": 1.5, "clip": "static"},
}


def patch_config(**groups) -> Config:
    """The tiny Patch-DM, 2 x 3 patches of 8 pixels, changed as by `config`."""
    values = {name: dict(group) for name, group in PATCH_DM.items()}
    for name, group in groups.items():
        values[name] = {**values.get(name, {}), **group} if isinstance(group, dict) else group
    return read(Config, values)


def patch_dataset(config: Config, num: int = 12) -> ArrayDataset:
    """Noise in colour."""
    images = np.random.default_rng(0).integers(0, 256, (num, *config.data.size, config.data.channels))
    return ArrayDataset(images.astype(np.uint8), None, config.data.batch_size, config.seed)


def prior_config(**groups) -> Config:
    """A tiny latent prior of the codes of `patch_config`."""
    values = {
        "data": {"source": "codes:none", "image_size": 16, "batch_size": 8},
        "model": {"system": "code_prior", "prediction": "eps", "network": {"width": 32, "num_layers": 3}},
        "codes": {"dim": 16},
        "diffusion": {"schedule": "constant", "beta_max": 0.008},
        "loss": {"kind": "l1", "target": "eps"},
        "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.01},
        "train": {"num_steps": 4, "log_every": 2},
        "checkpoint": {"save_every": 4},
        "sample": {"sampler": "ddim", "steps": "4"},
    }
    for name, group in groups.items():
        values[name] = {**values.get(name, {}), **group} if isinstance(group, dict) else group
    return read(Config, values)


LDM = {
    "data": {"source": "memory", "image_size": 16, "channels": 3, "batch_size": 8},
    "model": {
        "system": "ldm",
        "backbone": "ldm_unet",
        "prediction": "eps",
        "network": {"width": 32, "channel_mult": (1,), "num_blocks": 1, "num_heads": 2, "use_scale_shift_norm": True},
    },
    "latent": {
        "kind": "kl",
        "network": {"width": 32, "channel_mult": (1, 1), "num_blocks": 1, "latent_channels": 2, "embed_dim": 3},
        "scale": None,
    },
    "reconstruction": {"critic_start": 1, "critic_layers": 1, "critic_width": 8},
    "diffusion": {"schedule": "ldm_linear", "beta_min": 0.0015, "beta_max": 0.0195},
    "loss": {"kind": "mse", "target": "eps"},
    "optimizer": {"learning_rate": 1e-3},
    "ema": {"decay": 0.9},
    "train": {"num_steps": 2, "log_every": 1, "grid_size": 4},
    "checkpoint": {"save_every": 2},
    "sample": {"sampler": "ddim", "steps": "3"},
}


def ldm_config(**groups) -> Config:
    """A tiny latent diffusion, f = 2, unconditional, changed as by `config`."""
    values = {name: dict(group) for name, group in LDM.items()}
    for name, group in groups.items():
        values[name] = {**values.get(name, {}), **group} if isinstance(group, dict) else group
    return read(Config, values)


def autoencoder_config(**groups) -> Config:
    """The tiny first stage of `ldm_config`."""
    return ldm_config(**{"model": {"system": "autoencoder", "network": {}}, **groups})
