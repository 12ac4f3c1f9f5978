"""LDM-4 on CelebA-HQ 256x256 (LDM section 4.2, tables 1 and 12; the released celeba256).

  pdm train --config=configs/ldm/first_stages.py:vq-f4 --workdir=runs/vq-f4 --config.data.source=folder:/data/openimages
  pdm train --config=configs/ldm/celebahq256.py --workdir=runs/celeba --config.data.source=folder:/data/celebahq256
  pdm eval  --workdir=runs/celeba --num=50000 --steps=uniform500 --features=inception:FILE \\
            --metrics=fid,precision,recall

A U-Net on the latents 64x64x3 of vq-f4. What all configs of latent diffusion share, the variants `small` and `smoke`
too, is in `_shared.py`. Encoding images takes part of each step; `pdm data encode` does it once.

The paper took its numbers with 500 steps, the program's samples have 200.

Expected (paper, 500 steps): FID 5.11, precision 0.72, recall 0.49. Not trained here.
Cost: 410,000 steps of 48 images, 14.4 V100 days (the paper's); 274,056,163 parameters.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_SHARED = runpy.run_path(str(Path(__file__).with_name("_shared.py")))
VARIANTS = _SHARED["VARIANTS"]


def get_config(variant: str = "") -> ConfigDict:
    return _SHARED["shrink"](make_model(), variant.split(","))


def make_model() -> ConfigDict:
    """The full-size run."""
    config = _SHARED["make_base"]("vq-f4")
    config.data.update(source="folder:data/celebahq256", batch_size=48)
    config.model.network = dict(width=224, channel_mult=(1, 2, 3, 4), num_blocks=2, attn_levels=(1, 2, 3), head_dim=32)
    config.optimizer.learning_rate = 2e-6 * config.data.batch_size
    config.train.num_steps = 410_000
    return config
