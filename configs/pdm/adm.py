"""ADM's own diffusion networks (guided-diffusion), to import their released files and measure them beside ours.

  pdm import --format=adm 256x256_diffusion_uncond.pt --config=configs/pdm/adm.py:256u --workdir=runs/adm256u
  pdm eval --workdir=runs/adm256u --features=inception:FILE --resize=tensorflow --metrics=fid,sfid,is,precision,recall

Variants: 64, 128, 256 (the default), 512 (with ImageNet's classes), 256u (unconditional); with any `smoke`: two steps
of a narrow network on photographs inside the installed packages.

Parameters: 295,904,454 (64), 421,529,606 (128), 553,838,086 (256), 558,997,638 (512), 552,814,086 (256u). The networks
have no null label, so they are not guided here; the paper guides them by classifiers. Trained on from here without the
dropout of the 64 and 128 networks.
"""

from ml_collections import ConfigDict

VARIANTS = ("64", "128", "256", "512", "256u", "smoke")
# width, channel_mult, blocks a level, levels that attend, attention order
_NETWORKS = {
    64: (192, (1, 2, 3, 4), 3, (1, 2, 3), "new"),
    128: (256, (1, 1, 2, 3, 4), 2, (2, 3, 4), "legacy"),
    256: (256, (1, 1, 2, 2, 4, 4), 2, (3, 4, 5), "legacy"),
    512: (256, (0.5, 1, 1, 2, 2, 4, 4), 2, (4, 5, 6), "legacy"),
}


def get_config(variant: str = "256") -> ConfigDict:
    words = variant.split(",")
    size = next((size for size in _NETWORKS if {str(size), f"{size}u"} & set(words)), 256)
    width, channel_mult, num_blocks, attn_levels, order = _NETWORKS[size]
    network = dict(
        width=width,
        channel_mult=channel_mult,
        num_blocks=num_blocks,
        attn_levels=attn_levels,
        attention_order=order,
        has_null=False,
        use_remat=True,
    )
    if size == 128:
        network["num_heads"] = 4
    config = ConfigDict()
    config.data = dict(source="tfds:imagenet2012", image_size=size, batch_size=256)
    config.model = dict(
        system="pdm",
        backbone="adm_unet",
        prediction="eps",
        num_classes=0 if "256u" in words else 1000,
        dtype="bfloat16",
        network=network,
    )
    config.diffusion = dict(schedule="cosine" if size == 64 else "linear")
    config.loss = dict(kind="mse", target="eps", vlb_weight=0.0)
    config.optimizer = dict(learning_rate=1e-4)
    config.ema = dict(decay=0.9999)
    config.train = dict(num_steps=1_000_000, log_every=100)
    config.checkpoint = dict(save_every=10_000)
    config.sample = dict(sampler="ancestral", steps="250", clip="static")
    return smoke(config) if "smoke" in words else config


def smoke(config: ConfigDict) -> ConfigDict:
    """The same network cut down to two steps on a CPU."""
    config.data.update(source="builtin:photos", image_size=64, crop="random", batch_size=8)
    config.model.num_classes = 0
    config.model.network.update(width=64, num_blocks=1, channel_mult=(1, 1), attn_levels=(1,))
    config.train.update(num_steps=2, log_every=1, grid_every=2, grid_size=4)
    config.checkpoint.save_every = 2
    config.sample.steps = "2"
    return config
