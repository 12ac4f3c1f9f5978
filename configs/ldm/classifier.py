"""A classifier of noisy latents of ImageNet, whose gradient guides sampling (LDM appendix C, tables 10 and 18).

  pdm train  --config=configs/ldm/classifier.py --workdir=runs/classifier --config.data.source=tfds:imagenet2012
  pdm sample --workdir=runs/imagenet-f8 --classifier=runs/classifier --classifier-scale=10 --num=16 --out=classes.png

For imagenet256.py:f8, with its first stage (vq-f8) and noise: the encoder of a U-Net and a head that attends. The paper
tells only that it has 111M parameters (506M with the U-Net's) and took 12 V100 days; this network has the U-Net's
levels and is trained as ADM trains classifiers (Dhariwal & Nichol, appendix I). Training logs its accuracy over all
steps of noise.

Variant `small`, of digits, needs the first stage that it is to guide latents of:
  pdm train --config=configs/ldm/imagenet256.py:f8,small --workdir=runs/digits
  pdm train --config=configs/ldm/classifier.py:small --workdir=runs/digits_classifier \\
            --config.latent.training=None --config.latent.first_stage=runs/digits/first_stage
Without these two settings it trains one of its own, as `smoke` does.

Expected (paper, 200 steps, scale 10): FID 7.76, IS 209.5, precision 0.84, recall 0.35. Not trained here.
Parameters: 122,884,328.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_SHARED = runpy.run_path(str(Path(__file__).with_name("_shared.py")))
VARIANTS = _SHARED["VARIANTS"]


def get_config(variant: str = "") -> ConfigDict:
    config = _SHARED["make_base"]("vq-f8")
    config.data.update(source="tfds:imagenet2012", batch_size=256, crop="random", flip=True)
    network = dict(width=256, channel_mult=(1, 2, 4), num_blocks=2, attn_levels=(0, 1, 2), head_dim=64)
    config.model = dict(system="classifier", num_classes=1000, dtype="bfloat16", network=network)
    config.loss = {}
    config.optimizer.update(learning_rate=3e-4, weight_decay=0.05)
    config.ema.decay = 0.0
    config.train.update(num_steps=300_000)
    config = _SHARED["shrink"](config, variant.split(","))
    config.train.grid_every = None
    return config
