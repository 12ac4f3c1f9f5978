"""Patch-DM on FFHQ 256x256 (Patch-DM section 5.3): 4x4 patches of 64x64, codes by an encoder that is trained along.

  pdm train --config=configs/patch_dm/ffhq256.py --workdir=runs/ffhq --config.data.source=folder:/data/ffhq256
  pdm train --config=configs/patch_dm/ffhq256.py:prior --workdir=runs/ffhq/prior --config.data.source=codes:runs/ffhq
  pdm sample --workdir=runs/ffhq --num=50000 --out=faces.npz

The network, its variants (`paper`, `prior`, `smoke`), parameters and applications are those of lsun256.py: 90,724,547
in all.

  FID 10.02, sFID 10.58, IS 4.63, precision 0.68, recall 0.44 (paper, 50 steps; not trained here)

Length: 72 million images, the program's preset for FFHQ.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_LSUN = runpy.run_path(str(Path(__file__).with_name("lsun256.py")))
VARIANTS = _LSUN["VARIANTS"]
_NUM_IMAGES = 72_000_000


def get_config(variant: str = "") -> ConfigDict:
    config = _LSUN["get_config"](variant)
    if "prior" in variant or "smoke" in variant:
        return config
    config.data.update(source="folder:data/ffhq256", crop="stretch")
    config.train.num_steps = _NUM_IMAGES // config.data.batch_size
    return config
