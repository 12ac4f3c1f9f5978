"""Handwritten digits on a laptop: PDM with classes, P = 2, split at S = 396, on the 1797 digits inside scikit-learn.

  pdm train  --config=configs/quickstart.py --workdir=runs/quickstart
  pdm sample --workdir=runs/quickstart --num=80 --out=samples.png
  pdm eval   --workdir=runs/quickstart

The digits are enlarged to 16x16, so the networks see an 8x8 grid of patches. The first one learns the steps with more
noise than a signal-to-noise ratio of 0.25, the second goes on from its weights and learns the others. Samples are
guided with w = 2.

Variants: `fast` is 150 steps each, enough for strokes and too few for labels; `smoke` is four steps of narrow networks.

Cost: about 5 minutes on 2 free CPU cores; 2 networks of 2,727,752 parameters, 5,455,504 in all.
Expected: losses about 4 (high) and 11 (low) at the end; 99.6 to 100 % of 500 samples (50 DDIM steps, w = 2) are read as
the digit that was asked for by an SVC trained on the real digits, which reads 99 % of held-out real ones
(`benchmarks/quickstart.py`).
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
    config.split = dict(snr=0.25, parts=_parts(600, 400))
    config.loss = dict(vlb_weight=1.0, t_max=999, label_dropout=0.1)
    config.optimizer = dict(learning_rate=5e-4, warmup_steps=100, b2=0.99, clip_norm=1000.0)
    config.ema = dict(decay=0.99)
    config.train = dict(log_every=50, grid_every=200, grid_size=40)
    config.checkpoint = dict(save_every=200)
    config.sample = dict(sampler="ddim", steps="50", guidance=2.0)
    config.eval = dict(num=1000)
    if variant == "fast":
        config.split.parts = _parts(150, 150)
        config.train.grid_every = 150
    if variant == "smoke":
        config.model.network.update(width=32, channel_mult=(1,))
        config.model.network.head_dim = 32
        config.data.batch_size = 8
        config.split.parts = ()
        config.train.update(num_steps=4, log_every=2, grid_every=4, grid_size=10)
        config.checkpoint.save_every = 2
        config.sample.steps = "5"
        config.eval.num = 20
    return config


def _parts(high: int, low: int) -> tuple[dict, dict]:
    """What differs between the halves: their numbers of steps, and the warm-up of the one that starts warm."""
    return dict(train=dict(num_steps=high)), dict(train=dict(num_steps=low), optimizer=dict(warmup_steps=20))
