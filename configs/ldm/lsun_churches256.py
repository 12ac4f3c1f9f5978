"""LDM-8 on LSUN churches 256x256, in a KL-regularised latent space (LDM section 4.2, tables 1 and 12).

  pdm train --config=configs/ldm/first_stages.py:kl-f8 --workdir=runs/kl-f8 --config.data.source=folder:/data/openimages
  pdm train --config=configs/ldm/lsun_churches256.py --workdir=runs/churches --config.data.source=folder:/data/church
  pdm eval  --workdir=runs/churches --num=50000 --features=inception:FILE --metrics=fid,precision,recall

The latents 32x32x4 of kl-f8 are drawn and divided by the deviation of the first batch's. Of the four, this network
alone has scale and shift by time, residual blocks that change the resolution and the error's absolute value as loss.
The program attends with 8 heads at each level; the paper's 24 channels a head are those of the first. Its 400 steps
(`uniform400`) are really 500; the paper tells of 200 in table 1 and of 100 in table 18.

Expected (paper, 200 steps): FID 4.02, precision 0.64, recall 0.52. Not trained here.
Cost: 500,000 steps of 96 images, 18 V100 days for 410,000 (the paper's); 294,966,916 parameters.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_SHARED = runpy.run_path(str(Path(__file__).with_name("_shared.py")))
VARIANTS = _SHARED["VARIANTS"]


def get_config(variant: str = "") -> ConfigDict:
    config = _SHARED["make_base"]("kl-f8")
    config.data.update(source="folder:data/lsun_church", batch_size=96, flip=True)
    config.latent.scale = None
    config.diffusion.beta_max = 0.0155
    config.model.network = dict(
        width=192,
        channel_mult=(1, 2, 2, 4, 4),
        num_blocks=2,
        attn_levels=(0, 1, 2, 3),
        num_heads=8,
        use_scale_shift_norm=True,
        resblock_updown=True,
    )
    config.loss.kind = "l1"
    config.optimizer.update(learning_rate=5e-5, warmup_steps=10_000, start_factor=1e-6)
    config.train.num_steps = 500_000
    config.sample.steps = "uniform400"
    return _SHARED["shrink"](config, variant.split(","))
