"""Latent diffusion on a laptop: the 1797 digits inside scikit-learn at 32x32, from latents of 8x8x4, with classes.

  pdm train  --config=configs/quickstart_ldm.py --workdir=runs/quickstart_ldm
  pdm sample --workdir=runs/quickstart_ldm --num=80 --out=samples.png

One command trains both stages: first a KL-regularised autoencoder, in the folder `first_stage`, whose pictures are
digits and beside each what it makes of it; then a U-Net on its latents, that attends to the class. Samples are guided
with w = 2. The paper's first stages also have a critic and a perceptual term, which digits do without.

Variant `smoke`: two steps of narrow networks each.

Cost: about 6 minutes on 2 free CPU cores; U-Net and classes 4,133,060 parameters, autoencoder 731,589.
Expected: losses about 100 (autoencoder) and 0.29 at the end; all of 192 samples were read as the digit that was asked
for by an SVC trained on the real digits (`benchmarks/quickstart.py`).
"""

from ml_collections import ConfigDict

VARIANTS = ("smoke",)


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.data = dict(source="builtin:digits", image_size=32, channels=1, batch_size=32)
    config.model = dict(
        system="ldm",
        backbone="ldm_unet",
        prediction="v",
        num_classes=10,
        network=dict(width=64, channel_mult=(1, 2), num_blocks=1, attn_levels=(1,), use_scale_shift_norm=True),
    )
    config.condition = dict(kinds=("class",), networks={"class": dict(width=64)})
    first_stage = dict(width=32, channel_mult=(1, 1, 2), num_blocks=1, latent_channels=4, embed_dim=4)
    config.latent = dict(kind="kl", network=first_stage, scale=None, training=_first_run())
    config.reconstruction = dict(critic_weight=0.0, kl_weight=1e-3)
    config.diffusion = dict(schedule="ldm_linear", beta_min=0.0015, beta_max=0.0195)
    config.loss = dict(kind="mse", target="v", label_dropout=0.1)
    config.optimizer = dict(learning_rate=1e-3, warmup_steps=100, clip_norm=1.0)
    config.ema = dict(decay=0.99)
    config.train = dict(num_steps=1000, log_every=50, grid_every=250, grid_size=40)
    config.checkpoint = dict(save_every=250)
    config.sample = dict(sampler="ddim", steps="50", guidance=2.0)
    config.eval = dict(num=1000)
    if variant == "smoke":
        config.data.batch_size = 8
        config.model.network.update(channel_mult=(1,), attn_levels=(0,))
        config.latent.network.update(channel_mult=(1, 1, 1))
        config.latent.training = dict(train=dict(num_steps=2, log_every=1, grid_every=2, grid_size=2))
        config.train.update(num_steps=2, log_every=1, grid_every=2, grid_size=2)
        config.checkpoint.save_every = 2
        config.sample.steps = "2"
        config.eval.num = 10
    return config


def _first_run() -> dict:
    """What differs in the autoencoder's own run."""
    return dict(
        data=dict(batch_size=16),
        optimizer=dict(learning_rate=2e-3, warmup_steps=50, b1=0.5, b2=0.9),
        train=dict(num_steps=350, log_every=50, grid_every=100, grid_size=20),
    )
