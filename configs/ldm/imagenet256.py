"""LDM-4 on ImageNet 256x256 with classes (LDM section 4.3, tables 3, 10 and 15; the released cin256-v2).

  pdm train  --config=configs/ldm/imagenet256.py --workdir=runs/imagenet --config.data.source=tfds:imagenet2012
  pdm sample --workdir=runs/imagenet --num=16 --labels=1,279,323,386 --guidance=3 --steps=uniform20 --out=classes.png
  pdm eval   --workdir=runs/imagenet --num=50000 --features=inception:FILE --metrics=fid,is,precision,recall

The first stage is that of celebahq256.py. The class is one token of 512 numbers that every attention reads; the 1001st
is that of no class. How often training takes it is not in the public code; 10 % here. The program keeps no averaged
weights of this model and has a rate of 1e-4, the paper's. (The paper's table 13 has 391M parameters and a batch of 40
for an LDM-4 on one GPU.)

Variant `f8` is the released cin256, on the latents 32x32x4 of vq-f8: batches of 64, no null class, so that it is
guided by a classifier (classifier.py). It has heads of 32 channels, where the paper's table 13 says one head.
`small` and `smoke` are as in `_shared.py`, of digits; join them to `f8` with a comma.

Expected (paper, 250 steps): FID 10.56, IS 103.5, precision 0.71, recall 0.62; with w = 1.5 FID 3.60, IS 247.7,
precision 0.87, recall 0.48. `f8` after 4.8M steps, 200 of the sampler: FID 15.51, IS 79.0, precision 0.65, recall 0.63.
Not trained here.
Cost: 178,000 steps of 1200 images, 271 V100 days (`f8`: 2.9M of 64, 79 days; the paper's). 401,433,091 parameters
(`f8` 395,496,196).
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_SHARED = runpy.run_path(str(Path(__file__).with_name("_shared.py")))
VARIANTS = ("f8", *_SHARED["VARIANTS"])


def get_config(variant: str = "") -> ConfigDict:
    words = variant.split(",")
    config = make_f8() if "f8" in words else make_f4()
    return _SHARED["shrink"](config, words)


def make_f4() -> ConfigDict:
    """The model that is guided without a classifier."""
    config = _make("vq-f4", batch_size=1200)
    config.model.network = dict(width=192, channel_mult=(1, 2, 3, 5), num_blocks=2, attn_levels=(1, 2, 3), num_heads=1)
    config.loss.label_dropout = 0.1
    config.optimizer.learning_rate = 1e-4
    config.ema.decay = 0.0
    config.train.num_steps = 178_000
    config.sample.update(steps="uniform250", guidance=1.5)
    return config


def make_f8() -> ConfigDict:
    """The model on smaller latents."""
    config = _make("vq-f8", batch_size=64)
    config.model.network = dict(width=256, channel_mult=(1, 2, 4), num_blocks=2, attn_levels=(0, 1, 2), head_dim=32)
    config.condition.networks["class"].has_null = False
    config.optimizer.learning_rate = 1e-6 * config.data.batch_size
    config.train.num_steps = 4_800_000
    return config


def _make(stage: str, batch_size: int) -> ConfigDict:
    config = _SHARED["make_base"](stage)
    config.data.update(source="tfds:imagenet2012", batch_size=batch_size)
    config.model.num_classes = 1000
    config.condition = dict(kinds=("class",), networks={"class": dict(width=512)})
    return config
