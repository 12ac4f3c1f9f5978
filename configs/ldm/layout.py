"""Layout to image: which objects lie in which boxes (LDM section 4.3.1, tables 9, 15 and 17).

  pdm train  --config=configs/ldm/layout.py --workdir=runs/layout --config.data.source=folder:/data/openimages
  pdm sample --workdir=runs/layout --num=16 --out=layout.png                     (of layouts of its data; or --told=...)
  pdm train  --config=configs/ldm/layout.py --workdir=runs/coco --init-from=runs/layout \\
             --config.data.source=folder:/data/coco --config.train.num_steps=NUM  (the paper's best on COCO begins so)

Each box is three tokens, the class and two corners, of which 30 and two for the crop are read by a transformer of 16
layers that is trained along. First stages are those of celebahq256.py; layouts lie beside images as .json files.
The program leaves out images with fewer than 2 or more than 30 objects and boxes below 1e-4 of the image
(`pdm_jax.data.layouts.select`); here what lies beside the images is taken as it is.

Base: OpenImages on the latents 64x64x3 of vq-f4, the released layout2img-openimages256 (heads of 32 channels, where
the paper says one head). Variant `coco`: from nothing on COCO and the latents 32x32x4 of vq-f8, as in the paper's
table 15, without its dropout of 0.1, which `ldm_unet` has not. Variants `small` and `smoke`, with either: `_shared.py`.

Expected (paper): OpenImages FID 32.02 with 200 steps; COCO 40.91 after OpenImages, `coco` 42.06 with 100 steps. Not
trained here.
Cost: 4,400,000 steps of 24 images (`coco` 170,000 of 48).
Parameters: U-Net 246,277,379 and layout 54,656,000, 300,933,379 in all (the released file has 4,202,496 more, a layer
that nothing uses; the paper 306M). `coco` 312,241,540 and as many, 366,897,540 in all (the paper's 345M does not follow
from its settings).
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_SHARED = runpy.run_path(str(Path(__file__).with_name("_shared.py")))
VARIANTS = ("coco", *_SHARED["VARIANTS"])


def get_config(variant: str = "") -> ConfigDict:
    words = variant.split(",")
    config = make_coco() if "coco" in words else make_openimages()
    return _SHARED["shrink"](config, words)


def make_openimages() -> ConfigDict:
    """The released model."""
    config = _make("vq-f4", batch_size=24)
    config.data.update(source="folder:data/openimages", crop="random", flip=True)
    config.model.network = dict(width=128, channel_mult=(1, 2, 3, 4), attn_levels=(1, 2, 3), head_dim=32)
    config.model.network.update(num_blocks=2, transformer_depth=3)
    config.train.num_steps = 4_400_000
    return config


def make_coco() -> ConfigDict:
    """The paper's model of COCO alone."""
    config = _make("vq-f8", batch_size=48)
    config.data.update(source="folder:data/coco", crop="random", flip=True)
    config.model.network = dict(width=192, channel_mult=(1, 2, 4), attn_levels=(0, 1, 2), num_heads=1)
    config.model.network.update(num_blocks=2, transformer_depth=2)
    config.optimizer.learning_rate = 4.8e-5
    config.train.num_steps = 170_000
    config.sample.steps = "uniform100"
    return config


def _make(stage: str, batch_size: int) -> ConfigDict:
    config = _SHARED["make_base"](stage)
    config.data.batch_size = batch_size
    layout = dict(vocab_size=8192, max_length=92, width=512, num_layers=16)
    config.condition = dict(kinds=("layout",), networks=dict(layout=layout))
    config.diffusion.beta_max = 0.0205
    config.loss.kind = "l1"
    config.optimizer.learning_rate = 2e-6 * batch_size
    return config
