"""Inpainting on Places (LDM section 4.5, tables 6, 7 and 15; the released inpainting_big).

  pdm train --config=configs/ldm/first_stages.py:vq-f4-noattn --workdir=runs/vq-f4-noattn \\
            --config.data.source=folder:/data/openimages
  pdm train --config=configs/ldm/inpainting.py --workdir=runs/inpainting --config.data.source=folder:/data/places
  pdm sample --workdir=runs/inpainting --told=folder:/data/photos --num=4 --out=filled
  pdm train --config=configs/ldm/inpainting.py --workdir=runs/inpainting512 --init-from=runs/inpainting \\
            --config.data.image_size=512 --config.train.num_steps=NUM         (half an epoch: `w/ ft` of table 7)

Beside z_t lie the latents of the image around the hole and the mask. Holes are drawn as LaMa draws them.

Base: the big network on the latents 64x64x3 of vq-f4-noattn, attention at three levels, blocks that change the
resolution. The program's rate of 1e-6 times the batch is multiplied by 1e-3 to 0.1 in 1000 steps, then falls to 1e-4 of
it at step 50,000 as half a cosine; the paper says 1e-6 of the small one. Variant `paper`: the small one of its table 15
on vq-f4, attention in the middle only. Variants `small` and `smoke`, with either: `_shared.py`.

Expected (paper, 512x512, all samples): FID 1.50 and LPIPS 0.137 after 512x512, 2.40 and 0.142 before; `paper` 2.15 and
0.144. Of holes of 40 to 50 %: FID 9.39, 12.89 and 11.87. Not trained here.
Cost: 360,000 steps of 128 images (the paper's); 387,245,827 parameters (`paper` 215,230,467).
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_SHARED = runpy.run_path(str(Path(__file__).with_name("_shared.py")))
VARIANTS = ("paper", *_SHARED["VARIANTS"])
_BATCH = 128
_RATE = 1e-6


def get_config(variant: str = "") -> ConfigDict:
    words = variant.split(",")
    config = make_paper() if "paper" in words else make_big()
    return _SHARED["shrink"](config, words)


def make_big() -> ConfigDict:
    """The released model."""
    config = _make("vq-f4-noattn")
    config.model.network = dict(width=256, channel_mult=(1, 2, 3, 4), num_blocks=2, attn_levels=(1, 2, 3), num_heads=8)
    config.model.network.resblock_updown = True
    config.optimizer.update(learning_rate=0.1 * _RATE * _BATCH, warmup_steps=1000, start_factor=1e-2)
    config.optimizer.update(schedule="cosine", schedule_steps=50_000, end_factor=1e-3)
    return config


def make_paper() -> ConfigDict:
    """The paper's first model."""
    config = _make("vq-f4")
    config.model.network = dict(width=128, channel_mult=(1, 4, 8), num_blocks=2, attn_levels=(), num_heads=1)
    config.optimizer.learning_rate = _RATE
    return config


def _make(stage: str) -> ConfigDict:
    config = _SHARED["make_base"](stage)
    config.data.update(source="folder:data/places", batch_size=_BATCH, crop="random")
    config.condition = dict(kinds=("inpaint",), mask="mixed")
    config.diffusion.beta_max = 0.0205
    config.loss.kind = "l1"
    config.train.num_steps = 360_000
    config.sample.steps = "uniform50"
    return config
