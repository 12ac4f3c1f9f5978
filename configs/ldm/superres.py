"""Super-resolution 64x64 to 256x256 on ImageNet (LDM section 4.4, tables 5, 11 and 15; the released bsr_sr).

  pdm train  --config=configs/ldm/superres.py --workdir=runs/superres --config.data.source=tfds:imagenet2012
  pdm sample --workdir=runs/superres --told=folder:/data/photos --num=4 --out=larger      (photos, made 4 times smaller)

The small image lies beside z_t, the latents 64x64x3 of vq-f4. Base: it is degraded as by BSRGAN in the program's light
form, blur, noise and JPEG, so that any small picture can be enlarged. Variant `bicubic`: it is only made smaller, the
model of the tables. The U-Net attends at 8x8 only. Variants `small` and `smoke`, with either: `_shared.py`.

Expected (paper, `bicubic`, 100 steps): FID 2.8 to features of validation images, 4.8 to those of training images, IS
166.3, PSNR 24.4, SSIM 0.69. Not trained here.
Cost: 860,000 steps of 64 images (the paper's); 113,622,563 parameters (the paper's 169M are with the first stage).
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_SHARED = runpy.run_path(str(Path(__file__).with_name("_shared.py")))
VARIANTS = ("bicubic", *_SHARED["VARIANTS"])


def get_config(variant: str = "") -> ConfigDict:
    words = variant.split(",")
    config = _SHARED["make_base"]("vq-f4")
    config.data.update(source="tfds:imagenet2012", batch_size=64, crop="random", min_crop=0.5)
    config.model.network = dict(width=160, channel_mult=(1, 2, 2, 4), num_blocks=2, attn_levels=(3,), head_dim=32)
    config.condition = dict(kinds=("superres",), factor=4, degradation="bicubic" if "bicubic" in words else "bsr")
    config.diffusion.beta_max = 0.0155
    config.optimizer.learning_rate = 1e-6 * config.data.batch_size
    config.train.num_steps = 860_000
    config.sample.update(steps="uniform100", eta=1.0)
    return _SHARED["shrink"](config, words)
