"""Patch-DM on a laptop: the 1797 digits inside scikit-learn at 32x32, in 4x4 patches of 8x8, each by itself.

  pdm train  --config=configs/quickstart_patch_dm.py --workdir=runs/patches
  pdm train  --config=configs/quickstart_patch_dm.py:prior --workdir=runs/patches/prior
  pdm sample --workdir=runs/patches --num=40 --out=samples.png

Each digit has a code, at first a projection of its thumbnail; the network makes patches of 8x8 and joins them by their
features, so that strokes run across the patches. The prior makes new codes. Without it, `pdm sample` takes those of
training images. Also try `pdm extend --left=1 --right=1` and `pdm upscale`.

Variants: `prior` is the second stage, which reads the codes of runs/patches; `smoke`, also `prior,smoke`, is two steps
of a narrow network.

Cost: about 8 minutes on 2 free CPU cores, nearly all of it for the first stage; 1,564,769 parameters with the codes.
"""

from ml_collections import ConfigDict

VARIANTS = ("prior", "smoke")
_CODE_DIM = 64


def get_config(variant: str = "") -> ConfigDict:
    words = variant.split(",")
    config = make_prior() if "prior" in words else make_model()
    return make_small(config) if "smoke" in words else config


def make_model() -> ConfigDict:
    """The U-Net over patches and the table of codes."""
    config = ConfigDict()
    config.data = dict(source="builtin:digits", image_size=32, channels=1, batch_size=32)
    config.model = dict(
        system="patch_dm",
        backbone="patch_unet",
        patch_size=8,
        prediction="v",
        network=dict(width=32, channel_mult=(1, 2, 2), num_blocks=1, embed_dim=128, dropout=0.0),
    )
    config.codes = dict(kind="table", dim=_CODE_DIM, num=1797, init="thumbnail")
    config.loss = dict(kind="shifted", target="v", code_dropout=0.1, position_dropout=0.1)
    config.optimizer = dict(learning_rate=1e-3, warmup_steps=100, b2=0.99, clip_norm=1.0)
    config.ema = dict(decay=0.99)
    config.train = dict(num_steps=1500, log_every=50, grid_every=500, grid_size=20)
    config.checkpoint = dict(save_every=250)
    config.sample = dict(sampler="ddim", steps="50", clip="static")
    config.eval = dict(num=1000)
    return config


def make_prior() -> ConfigDict:
    """The latent prior: a small network over codes."""
    config = ConfigDict()
    config.data = dict(source="codes:runs/patches", image_size=(1, 1), batch_size=256)
    config.model = dict(system="code_prior", prediction="eps", network=dict(width=512, num_layers=5))
    config.codes = dict(dim=_CODE_DIM)
    config.diffusion = dict(schedule="constant", beta_max=0.008)
    config.loss = dict(kind="l1", target="eps")
    config.optimizer = dict(learning_rate=1e-3, warmup_steps=100)
    config.ema = dict(decay=0.995)
    config.train = dict(num_steps=2000, log_every=200)
    config.checkpoint = dict(save_every=1000)
    config.sample = dict(sampler="ddim", steps="50")
    return config


def make_small(config: ConfigDict) -> ConfigDict:
    """The same run cut down to two steps."""
    config.data.batch_size = 8
    config.codes.dim = 16
    config.train.update(num_steps=2, log_every=1)
    config.checkpoint.save_every = 2
    config.sample.steps = "2"
    if config.model.system == "code_prior":
        config.model.network.update(width=32, num_layers=3)
    else:
        config.data.image_size = 16
        config.model.network.update(channel_mult=(1, 1), embed_dim=32)
        config.train.update(grid_every=2, grid_size=2)
    return config
