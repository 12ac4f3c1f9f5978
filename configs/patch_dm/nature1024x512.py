"""Patch-DM on landscapes of 1024x512 (Patch-DM section 5.2): 16x8 patches of 64x64, a trained code for each image.

  pdm train --config=configs/patch_dm/nature1024x512.py --workdir=runs/nature --config.data.source=folder:/data/nature
  pdm train --config=configs/patch_dm/nature1024x512.py:prior --workdir=runs/nature/prior \\
            --config.data.source=codes:runs/nature
  pdm sample   --workdir=runs/nature --num=16 --out=samples        (codes of the prior in runs/nature/prior)
  pdm upscale  --workdir=runs/nature --num=4 --out=large           (2048x1024)
  pdm extend   --workdir=runs/nature --num=4 --left=2 --right=2 --out=wide
  pdm inpaint  --workdir=runs/nature picture.png --mask=mask.png --out=filled.png
  pdm outpaint --workdir=runs/nature picture.png --right=256 --out=wider.png

The program resizes to 1280x512 and cuts the middle out, which for its 2.5:1 pictures is the centre crop here. Codes
start as CLIP's image features: --config.codes.init=clip:FOLDER of openai/clip-vit-base-patch16; without it as random
projections of thumbnails. Samples are guided as in the paper; its weight is only in the program, w = 0.5 of a formula
that makes it 1.5 here. Sampling many or huge images in less memory: --max-patches=64.

The default is the released program with its --cfg. Variants: `paper` attends in the middle alone, which is what the
paper's parameter counts are of, and has its one-term loss and batches of 16 (prior: 256); `prior` is the latent prior;
`smoke`, with any of them (`prior,smoke`), two steps of a narrow network on photographs inside the installed packages.

  parameters: U-Net 71,404,035 (`paper` 70,085,635), table of codes 10,978,816; 82,382,851 in all (`paper` 81,064,451)
  and 54,109,696 of the prior
  FID 20.37, sFID 34.41, IS 5.60, precision 0.68, recall 0.26 (paper, 50,000 images of 50 steps; not trained here)

The paper does not say how long it trained, and the program trains until it is stopped: a million steps are our guess.
"""

from ml_collections import ConfigDict

VARIANTS = ("paper", "prior", "smoke")
_CODE_DIM = 512


def get_config(variant: str = "") -> ConfigDict:
    words = variant.split(",")
    make = make_prior if "prior" in words else make_model
    config = make(is_paper="paper" in words)
    return make_small(config) if "smoke" in words else config


def make_model(is_paper: bool) -> ConfigDict:
    """The U-Net and the table of codes, trained together."""
    config = ConfigDict()
    config.data = dict(source="folder:data/nature", image_size=(512, 1024), batch_size=16 if is_paper else 64)
    config.model = dict(
        system="patch_dm",
        backbone="patch_unet",
        patch_size=64,
        prediction="eps",
        dtype="bfloat16",
        network=dict(width=64, channel_mult=(1, 2, 4, 8), num_blocks=2, attn_levels=() if is_paper else (2,)),
    )
    config.codes = dict(kind="table", dim=_CODE_DIM, num=21_443, init="thumbnail")
    config.loss = dict(kind="shifted" if is_paper else "both", target="eps", code_dropout=0.1, position_dropout=0.5)
    config.optimizer = dict(learning_rate=1e-4, eps=1e-8, clip_norm=1.0)
    config.ema = dict(decay=0.9999)
    config.train = dict(num_steps=1_000_000, log_every=100, grid_every=10_000, grid_size=4)
    config.checkpoint = dict(save_every=5000, keep_every=100_000)
    config.sample = dict(sampler="ddim", steps="ddim50", clip="static", guidance=1.5)
    return config


def make_prior(is_paper: bool) -> ConfigDict:
    """The latent prior, trained on the codes of a first run: on 60 million of them, as in the program."""
    config = ConfigDict()
    config.data = dict(source="codes:runs/nature", image_size=(1, 1), batch_size=256 if is_paper else 512)
    config.model = dict(system="code_prior", prediction="eps", network=dict(width=2048, num_layers=10))
    config.codes = dict(dim=_CODE_DIM)
    config.diffusion = dict(schedule="constant", beta_max=0.008)
    config.loss = dict(kind="l1", target="eps")
    config.optimizer = dict(learning_rate=1e-4, eps=1e-8, weight_decay=0.01)
    config.ema = dict(decay=0.9999)
    config.train = dict(num_steps=60_000_000 // config.data.batch_size, log_every=100)
    config.checkpoint = dict(save_every=5000)
    config.sample = dict(sampler="ddim", steps="ddim50")
    return config


def make_small(config: ConfigDict) -> ConfigDict:
    """The same run cut down to two steps on a CPU."""
    config.data.batch_size = 8
    config.codes.dim = 32
    config.train.update(num_steps=2, log_every=1)
    config.checkpoint.save_every = 2
    config.sample.steps = "2"
    if config.model.system == "code_prior":
        config.model.network.update(width=32, num_layers=3)
        return config
    config.data.update(source="builtin:photos", image_size=(16, 32))
    config.model.patch_size = 16
    config.model.network.update(width=32, channel_mult=(1, 1), num_blocks=1, embed_dim=32)
    config.model.network.attn_levels = config.model.network.attn_levels and (1,)
    if config.codes.kind == "table":
        config.codes.num = 2304
    else:
        config.codes.network.update(width=32, channel_mult=(1, 1), num_blocks=1, attn_levels=(1,))
    config.train.update(grid_every=2, grid_size=2)
    return config
