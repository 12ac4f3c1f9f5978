"""A tiny first stage of latent diffusion: colour noise of 16x16, f = 2."""

from pdm_jax.config import Config, read

SETTINGS = {
    "data": {"source": "memory", "image_size": 16, "channels": 3, "batch_size": 4},
    "model": {"system": "autoencoder", "network": {}},
    "latent": {
        "kind": "vq",
        "network": {
            "width": 4,
            "channel_mult": (1, 1),
            "num_blocks": 1,
            "mid_attention": False,
            "latent_channels": 3,
            "embed_dim": 3,
            "num_codes": 16,
        },
    },
    "reconstruction": {"critic_start": 1, "critic_width": 4, "critic_layers": 2},
    "loss": {},
    "optimizer": {"learning_rate": 1e-3, "b1": 0.5, "b2": 0.9},
    "ema": {"decay": 0.0},
    "train": {"num_steps": 2, "log_every": 1},
    "checkpoint": {"save_every": 2},
    "eval": {"num": 6},
}


def first_stage_config(kind: str = "vq", **groups) -> Config:
    """The tiny config of a kind with some settings of its groups changed."""
    values = {name: dict(group) for name, group in SETTINGS.items()}
    if kind == "kl":
        network = {key: value for key, value in values["latent"]["network"].items() if key != "num_codes"}
        values["latent"] = {"kind": "kl", "network": network}
    for name, group in groups.items():
        values[name] = {**values.get(name, {}), **group}
    return read(Config, values)
