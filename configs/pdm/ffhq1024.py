"""PDM on FFHQ 1024x1024, patch size 4 (PDM section 4, table 4).

  pdm train --config=configs/pdm/ffhq1024.py --workdir=runs/ffhq --config.data.source=folder:/data/ffhq
  pdm sample --workdir=runs/ffhq --num=16 --batch-size=4 --out=faces.png

Variant `smoke`: two steps of a narrow network on photographs inside the installed packages, on a CPU.

Cost: 780,000 steps of 32 images; 162,645,344 parameters. The paper shows samples of 1000 steps and gives no FID.
The learning rate is that of the authors' program, 1e-4; the paper's table says 2e-5.
"""

from ml_collections import ConfigDict

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.data = dict(source="folder:data/ffhq1024", image_size=1024, batch_size=32)
    config.model = dict(
        system="pdm",
        patch_size=4,
        dtype="bfloat16",
        network=dict(width=128, channel_mult=(1, 2, 2, 4, 4, 4), num_blocks=2, attn_levels=(4, 5), use_remat=True),
    )
    config.diffusion = dict(beta_max=0.025, last_alpha="first")
    config.loss = dict(vlb_weight=32 / 8, t_max=999)  # 8 replicas, see church256.py
    config.optimizer = dict(learning_rate=1e-4, warmup_steps=5000, b1=0.9, b2=0.98)
    config.ema = dict(decay=0.99, every=100, place="host")
    config.train = dict(num_steps=780_000, log_every=100, grid_every=10_000, grid_size=4)
    config.checkpoint = dict(save_every=5000, keep_every=50_000)
    config.sample = dict(sampler="ancestral", steps="1000")
    if variant == "smoke":
        config.data.update(source="builtin:photos", image_size=128, crop="random", batch_size=8)
        config.model.network.update(width=32, head_dim=32, num_blocks=1, channel_mult=(1, 1, 1, 1, 1, 1))
        config.train.update(num_steps=2, log_every=1, grid_every=2)
        config.checkpoint.save_every = 2
        config.sample.steps = "2"
    return config
