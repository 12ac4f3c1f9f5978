"""Handwritten digits on a laptop: PDM with classes, P = 2, on the 1797 digits inside scikit-learn.

  pdm train  --config=configs/quickstart.py --workdir=runs/quickstart
  pdm sample --workdir=runs/quickstart --num=80 --out=samples.png

The digits are enlarged to 16x16, so the network sees an 8x8 grid of patches.

Variants: `fast` is 300 steps, enough for strokes and too few for labels; `smoke` is four steps of a narrow network.

Cost: 3 minutes 20 on 2 free CPU cores; 2,727,752 parameters.
Expected: loss about 8 at the end; 90 to 92 % of 500 samples (50 DDIM steps, no guidance) are read as the digit that was
asked for by an SVC trained on the real digits, which reads 99 % of held-out real ones (`benchmarks/quickstart.py`).
"""

from ml_collections import ConfigDict

VARIANTS = ("fast", "smoke")


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.data = dict(source="builtin:digits", image_size=16, channels=1, batch_size=64)
    config.model = dict(
        system="pdm",
        patch_size=2,
        num_classes=10,
        network=dict(width=64, channel_mult=(1, 2), num_blocks=1),
    )
    config.loss = dict(vlb_weight=1.0, t_max=999, label_dropout=0.1)
    config.optimizer = dict(learning_rate=5e-4, warmup_steps=100, b2=0.99, clip_norm=1000.0)
    config.ema = dict(decay=0.99)
    config.train = dict(num_steps=1000, log_every=50, grid_every=500, grid_size=40)
    config.checkpoint = dict(save_every=500)
    config.sample = dict(sampler="ddim", steps="50")
    if variant == "fast":
        config.train.update(num_steps=300, grid_every=300)
    if variant == "smoke":
        config.model.network.update(width=32, channel_mult=(1,))
        config.model.network.head_dim = 32
        config.data.batch_size = 8
        config.train.update(num_steps=4, log_every=2, grid_every=4, grid_size=10)
        config.checkpoint.save_every = 2
        config.sample.steps = "5"
    return config
