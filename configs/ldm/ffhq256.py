"""LDM-4 on FFHQ 256x256 (LDM section 4.2, tables 1 and 12).

  pdm train --config=configs/ldm/ffhq256.py --workdir=runs/ffhq --config.data.source=folder:/data/ffhq256
  pdm eval  --workdir=runs/ffhq --num=50000 --features=inception:FILE --metrics=fid,precision,recall

First stage, network, variants and how to train are those of celebahq256.py.

Expected (paper, 200 steps): FID 4.98, precision 0.73, recall 0.50. Not trained here.
Cost: 635,000 steps of 42 images, 26 V100 days (the paper's); 274,056,163 parameters.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_FACES = runpy.run_path(str(Path(__file__).with_name("celebahq256.py")))
_SHARED = _FACES["_SHARED"]
VARIANTS = _SHARED["VARIANTS"]


def get_config(variant: str = "") -> ConfigDict:
    config = _FACES["make_model"]()
    config.data.update(source="folder:data/ffhq256", batch_size=42)
    config.optimizer.learning_rate = 2e-6 * config.data.batch_size
    config.train.num_steps = 635_000
    config.sample.eta = 1.0
    return _SHARED["shrink"](config, variant.split(","))
