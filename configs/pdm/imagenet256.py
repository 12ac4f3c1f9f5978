"""PDM on ImageNet 256x256 with classes, patch size 4, split at S = 396 (PDM section 4.2, tables 2 and 4).

  pdm train --config=configs/pdm/imagenet256.py --workdir=runs/imagenet --config.data.source=tfds:imagenet2012
  pdm sample --workdir=runs/imagenet --num=16 --labels=1,279,323,386 --guidance=2.25 --out=classes.png
  pdm eval --workdir=runs/imagenet --num=50000 --features=inception:FILE --metrics=fid,sfid,is,precision,recall

The halves are trained in turn, the noisiest first; on two pods at once with --half=high and --half=low (the low half
then starts from nothing). The paper's samples have w = 1.5 and 2.25, its numbers w = 1.5.

Expected (paper, 250 steps, 50,000 samples): w = 1.5 IS 142.2, FID 8.57, sFID 6.50, precision 0.79, recall 0.47;
w = 2.25 IS 244.7, FID 8.87, sFID 6.84, precision 0.90, recall 0.31.

Variant `smoke`: two steps of narrow networks on photographs inside the installed packages, on a CPU.

Cost: 500,000 steps of 256 images a half, 1.4 s a step on a TPUv2-8 (the paper's); 2 networks of 202,148,704
parameters, 404,297,408 in all.
"""

from ml_collections import ConfigDict

VARIANTS = ("smoke",)
_BATCH, _REPLICAS = 256, 8  # of the paper's TPUv2-8


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.data = dict(source="tfds:imagenet2012", image_size=256, batch_size=_BATCH)
    config.model = dict(
        system="pdm",
        patch_size=4,
        num_classes=1000,
        dtype="bfloat16",
        network=dict(width=256, channel_mult=(1, 2, 2, 2), num_blocks=3, attn_levels=(2, 3), class_input="gate"),
    )
    config.diffusion = dict(beta_max=0.02, last_alpha="first")
    low = dict(optimizer=dict(learning_rate=5e-5, warmup_steps=10_000, b2=0.999))
    config.split = dict(snr=0.25, parts=(dict(), low))
    # The program adds L_vlb as a sum over each replica's batch to the mean of L_simple, and never draws t = 999.
    config.loss = dict(vlb_weight=_BATCH / _REPLICAS, t_max=999, label_dropout=0.1)
    config.optimizer = dict(learning_rate=1e-4, warmup_steps=5000, b1=0.9, b2=0.98)
    config.ema = dict(decay=0.99, every=100, place="host")
    config.mesh = dict(data=1, fsdp=-1)  # a TPUv2-8: 4.5 of 8 GiB; 6.2 with all weights everywhere
    config.train = dict(num_steps=500_000, log_every=100, grid_every=10_000)
    config.checkpoint = dict(save_every=5000, keep_every=50_000)
    config.sample = dict(sampler="ancestral", steps="250", guidance=1.5, clip="dynamic", unguided_last=True)
    if variant == "smoke":
        config.data.update(source="builtin:photos", image_size=32, crop="random", batch_size=8)
        config.model.num_classes = 0
        config.model.network.update(width=32, head_dim=32, num_blocks=1, class_input="add")
        config.sample.update(steps="4", guidance=1.0)
        config.train.update(num_steps=2, log_every=1, grid_every=2, grid_size=4)
        config.checkpoint.save_every = 2
    return config
