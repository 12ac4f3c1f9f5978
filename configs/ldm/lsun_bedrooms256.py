"""LDM-4 on LSUN bedrooms 256x256 (LDM section 4.2, tables 1 and 12; the released lsun_beds256).

  pdm train --config=configs/ldm/lsun_bedrooms256.py --workdir=runs/bedrooms --config.data.source=folder:/data/bedroom
  pdm eval  --workdir=runs/bedrooms --num=50000 --features=inception:FILE --metrics=fid,precision,recall

First stage, network, variants and how to train are those of celebahq256.py.

Expected (paper, 200 steps): FID 2.95, precision 0.66, recall 0.48. Not trained here.
Cost: 1,900,000 steps of 48 images, 55 V100 days (the paper's); 274,056,163 parameters.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_FACES = runpy.run_path(str(Path(__file__).with_name("celebahq256.py")))
_SHARED = _FACES["_SHARED"]
VARIANTS = _SHARED["VARIANTS"]


def get_config(variant: str = "") -> ConfigDict:
    config = _FACES["make_model"]()
    config.data.update(source="folder:data/lsun_bedroom", flip=True)
    config.train.num_steps = 1_900_000
    config.sample.eta = 1.0
    return _SHARED["shrink"](config, variant.split(","))
