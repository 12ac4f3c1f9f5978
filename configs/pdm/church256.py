"""PDM on LSUN Church 256x256, patch size 2, 4 or 8 (PDM section 3.1, tables 1 and 3).

  pdm train --config=configs/pdm/church256.py:P4 --workdir=runs/church --config.data.source=folder:/data/lsun_church
  pdm sample --workdir=runs/church --num=50000 --out=church.npz

Variants: P2, P4 (the default), P8, and with any of them `smoke` (`P8,smoke`): two steps of a narrow network on
photographs inside the installed packages, in seconds on a CPU.

Cost: 2.5 days on a TPUv2-8 each (the paper's); 120 million parameters.

  patch size   parameters    FID (paper)   images/s, 250 steps, TPUv2-8 (paper)
  P = 2        122,916,120   5.7           1.7
  P = 4        121,416,544   7.5           2.4
  P = 8        121,011,584   22.0          4.4
"""

from ml_collections import ConfigDict

# patch size: (base width, channel_mult, blocks a level, levels that attend: grids of 16 and 8, batch, iterations)
_SIZES = {
    2: (128, (1, 2, 2, 4, 4), 2, (3, 4), 128, 335_000),
    4: (256, (1, 1, 2, 2), 2, (2, 3), 256, 275_000),
    8: (256, (1, 1.5, 2), 3, (1, 2), 512, 215_000),
}
VARIANTS = ("P2", "P4", "P8", "smoke")
_REPLICAS = 8  # of the paper's TPUv2-8


def get_config(variant: str = "P4") -> ConfigDict:
    words = variant.split(",")
    patch_size = next((p for p in _SIZES if f"P{p}" in words), 4)
    width, channel_mult, num_blocks, attn_levels, batch_size, num_steps = _SIZES[patch_size]
    config = ConfigDict()
    config.data = dict(source="folder:data/lsun_church", image_size=256, batch_size=batch_size)
    config.model = dict(
        system="pdm",
        patch_size=patch_size,
        dtype="bfloat16",
        network=dict(width=width, channel_mult=channel_mult, num_blocks=num_blocks, attn_levels=attn_levels),
    )
    config.diffusion = dict(beta_max=0.02, last_alpha="first")
    # The program adds L_vlb as a sum over each replica's batch to the mean of L_simple, and never draws t = 999.
    config.loss = dict(vlb_weight=batch_size / _REPLICAS, t_max=999)
    config.optimizer = dict(learning_rate=1e-4, warmup_steps=5000, b1=0.9, b2=0.99)
    config.ema = dict(decay=0.99, every=100, place="host")
    config.train = dict(num_steps=num_steps, log_every=100, grid_every=10_000)
    config.checkpoint = dict(save_every=5000, keep_every=50_000)
    config.sample = dict(sampler="ancestral", steps="90,60,60,20,20")
    return smoke(config) if "smoke" in words else config


def smoke(config: ConfigDict) -> ConfigDict:
    """The same run cut down to two steps on a CPU."""
    config.data.update(source="builtin:photos", image_size=32, crop="random", batch_size=8)
    width = 64 if config.model.patch_size == 8 else 32
    config.model.network.update(width=width, head_dim=32, num_blocks=1)
    config.loss.vlb_weight = 1.0
    config.train.update(num_steps=2, log_every=1, grid_every=2)
    config.train.grid_size = 4
    config.checkpoint.save_every = 2
    config.sample.steps = "2"
    return config
