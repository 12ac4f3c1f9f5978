"""What the configs of latent diffusion share; no config by itself.

All of them follow the released program, latent-diffusion, but compute the U-Net in bfloat16, where it has float32
(--config.model.dtype=float32). First stages are made by `first_stages.py`, or are the released ones, imported by
`pdm import`; --config.latent.first_stage says where one lies.

Variants of each: `small` is narrow networks on the digits inside scikit-learn, or scenes of them with captions, layouts
and class maps, at 32x32: first stage and diffusion by one command in minutes on a CPU. `smoke` is two steps of that
with a first stage of the original's kind.
"""

import runpy
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

_FIRST_STAGES = runpy.run_path(str(Path(__file__).with_name("first_stages.py")))
VARIANTS = ("small", "smoke")
_SMALL_READERS = {  # captions of scenes; their up to 4 objects, with a token for each place of the 32x32 pixels
    "class": dict(width=64),
    "text": dict(vocab_size=128, max_length=24, width=64, num_layers=2, use_remat=False),
    "layout": dict(vocab_size=1024, max_length=14, width=64, num_layers=2),
    "semantic": dict(in_channels=11, out_channels=3, num_halvings=2),
}


def make_base(stage: str) -> ConfigDict:
    """A run on the latents of a first stage of the zoo, without data, network and rate."""
    first = _FIRST_STAGES["make_stage"](stage)
    config = ConfigDict()
    config.data = dict(image_size=256)
    config.model = dict(system="ldm", backbone="ldm_unet", prediction="eps", dtype="bfloat16")
    config.latent = dict(kind=first.latent.kind, network=first.latent.network, first_stage=f"runs/{stage}")
    config.diffusion = dict(schedule="ldm_linear", beta_min=0.0015, beta_max=0.0195)
    config.loss = dict(kind="mse", target="eps")
    config.optimizer = dict(eps=1e-8, weight_decay=0.01)
    config.ema = dict(decay=0.9999, warmup=True)
    config.train = dict(log_every=100, grid_every=10_000, grid_size=16)
    config.checkpoint = dict(save_every=5000, keep_every=100_000)
    config.sample = dict(sampler="ddim", steps="uniform200", last_alpha="first")
    return config


def shrink(config: ConfigDict, words: Sequence[str]) -> ConfigDict:
    """The config, or one of its variants `small` and `smoke` where these are among the words."""
    if "smoke" in words:
        return make_smoke(config)
    return make_small(config) if "small" in words else config


def make_small(config: ConfigDict) -> ConfigDict:
    """The same task with narrow networks on digits, both stages by one command."""
    labelled = config.model.get("num_classes", 0) > 0
    config.data = dict(source="builtin:digits" if labelled else "builtin:scenes", image_size=32, channels=1)
    config.data.batch_size = 32
    config.model.dtype = "float32"
    if config.model.system == "ldm":  # in few steps v is learned better than the noise
        config.model.prediction = config.loss.target = "v"
    config.model.network.update(width=64, channel_mult=(1, 2), num_blocks=1, attn_levels=(1,), use_remat=False)
    if "transformer_depth" in config.model.network:
        config.model.network.transformer_depth = 1
    if labelled:
        config.model.num_classes = 10
    if "condition" in config and config.condition.get("networks"):
        for kind, settings in config.condition.networks.items():
            settings.update(_SMALL_READERS[kind])
    stage = dict(width=32, channel_mult=(1, 1, 2), num_blocks=1, latent_channels=4, embed_dim=4)
    config.latent = dict(kind="kl", network=stage, scale=None, training=_small_training())
    config.reconstruction = dict(critic_weight=0.0, kl_weight=1e-3)
    config.optimizer = dict(learning_rate=1e-3, warmup_steps=100, clip_norm=1.0)
    config.ema = dict(decay=0.995, warmup=True)
    config.mesh = {}
    config.train = dict(num_steps=2000, log_every=50, grid_every=500, grid_size=16)
    config.checkpoint = dict(save_every=250)
    config.sample.steps = "uniform50"
    config.eval = dict(num=1000)
    return config


def _small_training() -> dict:
    return dict(
        data=dict(batch_size=16),
        optimizer=dict(learning_rate=2e-3, warmup_steps=50, b1=0.5, b2=0.9),
        train=dict(num_steps=400, log_every=50, grid_every=200, grid_size=16),
    )


def make_smoke(config: ConfigDict) -> ConfigDict:
    """Two steps of each stage, to see that they run; the first stage is of the config's own kind."""
    kind = config.latent.kind
    config = make_small(config)
    config.data.batch_size = 8
    config.model.network.update(channel_mult=(1,), attn_levels=(0,))
    config.latent.kind = kind
    config.latent.network.update(channel_mult=(1, 1, 1), num_codes=64 if kind == "vq" else 0)
    config.latent.training = dict(train=dict(num_steps=2, log_every=1, grid_every=2, grid_size=2))
    config.train.update(num_steps=2, log_every=1, grid_every=2, grid_size=2)
    config.checkpoint.save_every = 2
    config.sample.steps = "uniform2"
    config.eval.num = 8
    return config
