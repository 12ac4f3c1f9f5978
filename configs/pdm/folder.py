"""PDM on your own pictures: a folder (or zip) of images, 128x128, patch size 4, without classes.

  pdm train  --config=configs/pdm/folder.py --workdir=runs/mine --config.data.source=folder:/my/pictures
  pdm sample --workdir=runs/mine --num=16 --out=samples.png
  pdm eval   --workdir=runs/mine --num=1000

Pictures are cropped to squares at random and mirrored. Other sizes: --config.data.image_size=256 (then patch size 4 or
8). With sub-folders as classes: --config.model.num_classes=N --config.loss.label_dropout=0.1, and --guidance=1.5 when
sampling. The best checkpoint by the loss of a fixed set is kept; pdm sample --step=best uses it.

Variant `smoke`: two steps of a narrow network on photographs inside the installed packages, on a CPU.

Not in the paper; 27,820,384 parameters. A few thousand pictures and 100,000 steps are where samples begin to look
right.
"""

from ml_collections import ConfigDict

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.data = dict(source="folder:pictures", image_size=128, batch_size=64, crop="random", flip=True)
    config.model = dict(
        system="pdm",
        patch_size=4,
        dtype="bfloat16",
        network=dict(width=128, channel_mult=(1, 2, 2), num_blocks=2, attn_levels=(1, 2)),
    )
    config.loss = dict(vlb_weight=1.0, t_max=999)
    config.optimizer = dict(learning_rate=1e-4, warmup_steps=5000, b2=0.99, clip_norm=1000.0)
    config.ema = dict(decay=0.9999)
    config.train = dict(num_steps=100_000, log_every=100, grid_every=5000)
    config.checkpoint = dict(save_every=2500)
    config.sample = dict(sampler="ddim", steps="100")
    config.eval = dict(num=5000, every=2500, metric="loss")
    if variant == "smoke":
        config.data.update(source="builtin:photos", image_size=32, batch_size=8)
        config.model.network.update(width=32, head_dim=32, num_blocks=1)
        config.train.update(num_steps=2, log_every=1, grid_every=2, grid_size=4)
        config.checkpoint.save_every = 2
        config.sample.steps = "4"
        config.eval.update(num=16, every=2, fixed_num=8)
    return config
