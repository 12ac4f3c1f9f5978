"""Patch-DM on FFHQ 1024x1024 (supplement, figure 16): 16x16 patches of 64x64, a trained code for each image.

  pdm train --config=configs/patch_dm/ffhq1024.py --workdir=runs/faces --config.data.source=folder:/data/ffhq1024
  pdm train --config=configs/patch_dm/ffhq1024.py:prior --workdir=runs/faces/prior --config.data.source=codes:runs/faces
  pdm sample --workdir=runs/faces --num=16 --batch-size=4 --out=faces

The network, loss, codes (--config.codes.init=clip:FOLDER), variants (`paper`, `prior`, `smoke`) and applications are
those of nature1024x512.py; a training step costs the same at any size of image. The paper shows samples, and gives
neither numbers nor which kind of codes they have.

Parameters: U-Net 71,404,035 (`paper` 70,085,635), table of codes 35,840,000; 107,244,035 in all. Not trained here.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_NATURE = runpy.run_path(str(Path(__file__).with_name("nature1024x512.py")))
VARIANTS = _NATURE["VARIANTS"]


def get_config(variant: str = "") -> ConfigDict:
    config = _NATURE["get_config"](variant)
    if "prior" in variant or "smoke" in variant:
        return config
    config.data.update(source="folder:data/ffhq1024", image_size=(1024, 1024), crop="stretch")
    config.codes.num = 70_000
    return config
