"""Patch-DM on your own pictures: a folder (or zip) of images, 256x256 or any other size, without prompts or classes.

  pdm train --config=configs/patch_dm/folder.py --workdir=runs/mine --config.data.source=folder:/my/pictures
  pdm train --config=configs/patch_dm/folder.py:prior --workdir=runs/mine/prior --config.data.source=codes:runs/mine
  pdm sample   --workdir=runs/mine --num=16 --out=samples.png
  pdm upscale  --workdir=runs/mine --num=4 --out=large
  pdm outpaint --workdir=runs/mine picture.jpg --right=128 --out=wider.png      (its code is read from the picture)
  pdm inpaint  --workdir=runs/mine picture.jpg --mask=mask.png --out=filled.png

Other sizes, height first: --config.data.image_size=(512,768), any multiple of the patch size, 64. The network over
patches costs the same at any size; the encoder, which reads whole pictures, does not: from about 512x512 on, or for a
few hundred pictures, use the variant `table`, which trains a code for each picture instead. Then pictures are not
cropped at random or mirrored, as one code stands for one view; `pdm sample` works without a prior, too (by the codes of
training pictures); and pdm outpaint has no code to read.

Variant `smoke`, with any of them (`table,smoke`): two steps of narrow networks on photographs inside the installed
packages, on a CPU.

Not in the paper; half as wide as its networks: 26,049,891 parameters with the encoder; `table` has 512 for each picture
in its place.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_NATURE = runpy.run_path(str(Path(__file__).with_name("nature1024x512.py")))
VARIANTS = ("table", "prior", "smoke")


def get_config(variant: str = "") -> ConfigDict:
    words = variant.split(",")
    config = make_prior() if "prior" in words else make_model(has_table="table" in words)
    return _NATURE["make_small"](config) if "smoke" in words else config


def make_model(has_table: bool) -> ConfigDict:
    """The U-Net with an encoder or a table of codes."""
    config = _NATURE["make_model"](is_paper=False)
    config.data = dict(source="folder:pictures", image_size=(256, 256), batch_size=32, crop="random", flip=True)
    config.model.network.width = 32
    encoder = dict(width=32, channel_mult=(1, 2, 4, 8, 8), num_blocks=2, attn_levels=(4,))
    config.codes = dict(kind="encoder", dim=512, network=encoder)
    if has_table:
        config.data.update(crop="center", flip=False)
        config.codes = dict(kind="table", dim=512, init="thumbnail")
    config.train.update(num_steps=200_000, grid_every=5000)
    config.checkpoint.update(save_every=2500, keep_every=None)
    return config


def make_prior() -> ConfigDict:
    """The prior of the landscapes, trained for as many steps as a few thousand codes need."""
    config = _NATURE["make_prior"](is_paper=False)
    config.data.update(source="codes:runs/mine", batch_size=64)
    config.train.num_steps = 50_000
    return config
