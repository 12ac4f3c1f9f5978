"""Semantic maps to landscapes (LDM section 4.3.2, table 15; the released semantic_synthesis256).

  pdm train  --config=configs/ldm/landscapes.py --workdir=runs/landscapes --config.data.source=folder:/data/landscapes
  pdm sample --workdir=runs/landscapes --told=folder:/data/drawn --size=512x1024 --num=4 --out=landscapes
  pdm train  --config=configs/ldm/landscapes.py --workdir=runs/wide --init-from=runs/landscapes \\
             --config.data.image_size=512 --config.train.num_steps=10000                   (the paper's figures 12, 23)

The map of one of 182 classes a pixel becomes 3 channels, halved to the latents' size and trained along, that lie
beside z_t. Images and maps are cropped to 256x256 from a shorter side of 384. Maps lie in a folder `maps` beside
that of the images.

Base: the latents 64x64x3 of vq-f4, 8 heads. Variant `f8`: the paper's table 15, 32x32x4 of vq-f8 and one head, where
its text says f = 4, too. The U-Net attends in its middle only. Variants `small` and `smoke`, of either, are as in
`_shared.py`.

Expected: the paper shows images and gives no numbers. Not trained here.
Cost: 360,000 steps of 48 images (the paper's). U-Net 215,229,315 and map 546 parameters, 215,229,861 in all
(`f8` 215,232,166).
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_SHARED = runpy.run_path(str(Path(__file__).with_name("_shared.py")))
VARIANTS = ("f8", *_SHARED["VARIANTS"])


def get_config(variant: str = "") -> ConfigDict:
    words = variant.split(",")
    config = _SHARED["make_base"]("vq-f8" if "f8" in words else "vq-f4")
    config.data.update(source="folder:data/landscapes", batch_size=48, crop="random", min_crop=0.67, flip=True)
    heads = 1 if "f8" in words else 8
    config.model.network = dict(width=128, channel_mult=(1, 4, 8), num_blocks=2, attn_levels=(), num_heads=heads)
    semantic = dict(in_channels=182, out_channels=3, num_halvings=3 if "f8" in words else 2)
    config.condition = dict(kinds=("semantic",), networks=dict(semantic=semantic))
    config.diffusion.beta_max = 0.0205
    config.loss.kind = "l1"
    config.optimizer.learning_rate = 1e-6 * config.data.batch_size
    config.train.num_steps = 360_000
    return _SHARED["shrink"](config, words)
