"""Handwritten digits on a laptop: PDM with classes, P = 2, 16x16.

  pdm train  --config=configs/quickstart.py --workdir=runs/quickstart
  pdm sample --workdir=runs/quickstart --num=64 --out=samples.png
"""

from ml_collections import ConfigDict

VARIANTS = ("smoke", "fast")


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.data = dict(source="builtin:digits", image_size=16, channels=1, batch_size=64)
    config.model = dict(
        system="pdm",
        patch_size=2,
        num_classes=10,
        network=dict(width=64, channel_mult=(1, 2), num_blocks=1, attn_levels=()),
    )
    config.loss = dict(vlb_weight=1.0, t_max=999, label_dropout=0.1)
    config.optimizer = dict(learning_rate=5e-4, warmup_steps=100, b2=0.99, clip_norm=1000.0)
    config.ema = dict(decay=0.99)
    config.train = dict(num_steps=1500, log_every=50, grid_every=500, grid_size=40)
    config.checkpoint = dict(save_every=500)
    config.sample = dict(sampler="ddim", steps="50")
    return config
