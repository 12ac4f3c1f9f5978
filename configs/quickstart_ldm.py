"""Latent diffusion on a laptop.

4,133,060
"""

from ml_collections import ConfigDict

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.data = dict(source="builtin:digits", image_size=32, channels=1, batch_size=32)
    config.model = dict(
        system="ldm",
        backbone="ldm_unet",
        prediction="eps",
        num_classes=10,
        network=dict(width=64, channel_mult=(1, 2), num_blocks=1, attn_levels=(1,), use_scale_shift_norm=True),
    )
    config.condition = dict(kinds=("class",), networks={"class": dict(width=64)})
    stage = dict(width=32, channel_mult=(1, 1, 2), num_blocks=1, latent_channels=4, embed_dim=4)
    config.latent = dict(kind="kl", network=stage, scale=None, training=_first_stage())
    config.reconstruction = dict(critic_weight=0.0, kl_weight=1e-3)
    config.diffusion = dict(schedule="ldm_linear", beta_min=0.0015, beta_max=0.0195)
    config.loss = dict(kind="mse", target="eps", label_dropout=0.1)
    config.optimizer = dict(learning_rate=1e-3, warmup_steps=100, clip_norm=1.0)
    config.ema = dict(decay=0.99)
    config.train = dict(num_steps=1000, log_every=50, grid_every=250, grid_size=40)
    config.checkpoint = dict(save_every=250)
    config.sample = dict(sampler="ddim", steps="50", guidance=2.0)
    config.eval = dict(num=1000)
    return config


def _first_stage() -> dict:
    return dict(
        data=dict(batch_size=16),
        optimizer=dict(learning_rate=2e-3, warmup_steps=50, b1=0.5, b2=0.9),
        train=dict(num_steps=350, log_every=25, grid_every=100, grid_size=20),
    )
