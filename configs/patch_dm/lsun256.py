"""Patch-DM on LSUN 256x256 (Patch-DM section 5.3): 4x4 patches of 64x64, codes by an encoder that is trained along.

  pdm train --config=configs/patch_dm/lsun256.py --workdir=runs/bedroom --config.data.source=folder:/data/bedroom
  pdm train --config=configs/patch_dm/lsun256.py:prior --workdir=runs/bedroom/prior \\
            --config.data.source=codes:runs/bedroom
  pdm sample   --workdir=runs/bedroom --num=50000 --out=bedroom.npz
  pdm outpaint --workdir=runs/bedroom picture.png --left=128 --right=128 --out=wider.png      (--code=image)
  pdm upscale, pdm extend and pdm inpaint as in nature1024x512.py, whose network, loss and prior these are.

For churches --config.data.source=folder:/data/church. Variants: `paper`, `prior` and `smoke` as there; in `paper` the
encoder attends at 16x16, too, not at 64x64 (the released program leaves a setting for images of 64x64).

  parameters: U-Net 71,404,035 (`paper` 70,085,635), encoder 19,320,512 (`paper` 20,896,448); 90,724,547 in all
  (`paper` 90,982,083, as in the paper's table 3)
  bedroom: FID 6.04, sFID 9.93, IS 2.41, precision 0.56, recall 0.44 (paper, 50 steps; not trained here)
  church:  FID 5.49, sFID 14.80, IS 2.85, precision 0.62, recall 0.53 (paper, 50 steps; not trained here)

Length: 120 million images, the program's preset for LSUN.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_NATURE = runpy.run_path(str(Path(__file__).with_name("nature1024x512.py")))
VARIANTS = _NATURE["VARIANTS"]
_NUM_IMAGES = 120_000_000


def get_config(variant: str = "") -> ConfigDict:
    words = variant.split(",")
    make = _NATURE["make_prior"] if "prior" in words else make_model
    config = make(is_paper="paper" in words)
    return _NATURE["make_small"](config) if "smoke" in words else config


def make_model(is_paper: bool) -> ConfigDict:
    """The U-Net of the landscapes and an encoder in place of the table."""
    config = _NATURE["make_model"](is_paper)
    config.data.update(source="folder:data/lsun_bedroom", image_size=(256, 256))
    attn_levels = (4,) if is_paper else (2,)
    encoder = dict(width=64, channel_mult=(1, 2, 4, 8, 8), num_blocks=2, attn_levels=attn_levels)
    config.codes = dict(kind="encoder", dim=512, network=encoder)
    config.train.num_steps = _NUM_IMAGES // config.data.batch_size
    return config
