"""First stages of latent diffusion (LDM section 3.1, table 8, appendix G), on photographs such as OpenImages.

  pdm train --config=configs/ldm/first_stages.py:vq-f4 --workdir=runs/vq-f4 \\
            --config.data.source=folder:/data/openimages \\
            --config.reconstruction.perceptual=/weights/vgg16-397923af.pth,/weights/lpips-vgg.pth
  pdm eval  --workdir=runs/vq-f4 --metrics=psnr,ssim,rfid --num=5000          (reconstructions beside their originals)

A first stage makes images f times smaller a side and draws them again, so that diffusion has less to do. `kl` holds
the latents near a normal distribution, `vq` looks them up in a codebook. The critic wants pictures that look real, the
perceptual term (VGG16 of torchvision, heads of the lpips package) such as look alike; without these files training
says so and goes on without that term, and reconstructions are blurred.

  variant        f  codes   c   parameters  with critic  R-FID   PSNR  SSIM
  vq-f32        32  16384  16  103,384,755  104,048,116  31.83  17.45  0.41
  vq-f16        16  16384   8   69,593,371   70,256,732   5.15  20.83  0.54
  vq-f8          8  16384   4   67,717,295   68,380,656   1.14  23.07  0.65
  vq-f8-n256     8    256   4   67,652,783   68,316,144   1.49  22.35  0.62
  vq-f4          4   8192   3   55,322,782   58,088,415   0.58  27.43  0.82
  vq-f4-noattn   4   8192   3   53,219,486   55,985,119   1.06  25.21  0.76
  vq-f4-n256     4    256   3   55,298,974   58,064,607   0.47  26.43  0.80
  vq-f2          2   2048   2   13,313,937   16,079,570   0.16  30.85  0.91
  vq-f2-n64      2     64   2   13,309,969   16,075,602   0.40  29.13  0.90
  kl-f32        32      -  64  103,880,131  106,645,764   2.04  22.27  0.61
  kl-f32-d16    32      -  16  103,197,139  105,962,772    7.3  20.38  0.53
  kl-f16        16      -  16   69,610,963   72,376,596   0.87  24.08  0.68
  kl-f16-d8     16      -   8   69,499,371   72,265,004   2.63  21.94  0.59
  kl-f8          8      -   4   83,653,863   86,419,496   0.90  24.19  0.69
  kl-f4          4      -   3   55,312,063   58,077,696   0.27  27.53  0.82
  kl-f2          2      -   2   13,314,465   16,080,098  0.086  32.47  0.93

Scores are the paper's, of models trained on OpenImages and measured on the validation images of ImageNet; none was
trained here. Networks, losses and the steps at which the critic begins are those of the released files; `vq-f32`, f = 2
and what has a number in its name are like their neighbours. The program crops 256x256 of images with a shorter side of
384. Batches are those of one of its GPUs (of `kl` two, whose gradients it adds): with more images in a batch, set
--config.optimizer.learning_rate to 4.5e-6 times their number. It does not say for how long; 400,000 steps here.

Memory: the middle attends over all places of the latents, which at f = 2 (128x128) takes 1 GB an image for each of
encoder and decoder, and a vq model compares all places with all codes (f = 4: 134 MB an image).

Variant `smoke`, with any of them (`vq-f4,smoke`; alone it is of kl-f8): four steps of narrow networks on a CPU.
"""

from ml_collections import ConfigDict

# Width factors by f. Attention, beside that of the middle, at 32x32 in vq-f8 and from 16x16 down in f16 and f32.
_LEVELS = {2: (1, 2), 4: (1, 2, 4), 8: (1, 2, 4, 4), 16: (1, 1, 2, 2, 4), 32: (1, 1, 2, 2, 4, 4)}
_ATTENTION = {16: (4,), 32: (4, 5)}
_RATE = 4.5e-6  # for each image of the batch
_STAGES = {  # f, channels of the latents, codes
    "vq-f32": (32, 16, 16384),
    "vq-f16": (16, 8, 16384),
    "vq-f8": (8, 4, 16384),
    "vq-f8-n256": (8, 4, 256),
    "vq-f4": (4, 3, 8192),
    "vq-f4-noattn": (4, 3, 8192),
    "vq-f4-n256": (4, 3, 256),
    "vq-f2": (2, 2, 2048),
    "vq-f2-n64": (2, 2, 64),
    "kl-f32": (32, 64, 0),
    "kl-f32-d16": (32, 16, 0),
    "kl-f16": (16, 16, 0),
    "kl-f16-d8": (16, 8, 0),
    "kl-f8": (8, 4, 0),
    "kl-f4": (4, 3, 0),
    "kl-f2": (2, 2, 0),
}
VARIANTS = (*_STAGES, "smoke")


def get_config(variant: str = "") -> ConfigDict:
    words = [word for word in variant.split(",") if word]
    names = [word for word in words if word in _STAGES] or ["kl-f8"]
    config = make_stage(names[0])
    return make_small(config) if "smoke" in words else config


def make_stage(name: str) -> ConfigDict:
    """A first stage of the zoo with the losses of its kind."""
    kind, (factor, dim, num_codes) = name[:2], _STAGES[name]
    config = ConfigDict()
    config.data = dict(source="folder:data/openimages", image_size=256, crop="random", min_crop=0.67, flip=True)
    config.model = dict(system="autoencoder", network={})
    network = dict(channel_mult=_LEVELS[factor], attn_levels=_ATTENTION.get(factor, ()), latent_channels=dim)
    config.latent = dict(kind=kind, network=network | dict(embed_dim=dim))
    config.loss = {}
    config.ema = dict(decay=0.0)
    config.train = dict(num_steps=400_000, log_every=100, grid_every=5000, grid_size=8)
    config.checkpoint = dict(save_every=5000, keep_every=100_000)
    config.eval = dict(num=5000)
    if kind == "kl":
        config.data.batch_size, accumulation = 24, 2
        config.reconstruction = dict(critic_start=50_001, critic_weight=0.5)
    else:
        config.data.batch_size, accumulation = {2: 8, 4: 8, 8: 10, 16: 14, 32: 14}[factor], 1
        config.latent.network.num_codes = num_codes
        config.reconstruction = _vq_losses(factor, name)
    if name.startswith("vq-f8"):
        config.latent.network.update(channel_mult=(1, 2, 2, 4), attn_levels=(3,))
    if name.endswith("noattn"):
        config.latent.network.mid_attention = False
    rate = _RATE * config.data.batch_size
    config.optimizer = dict(learning_rate=rate, b1=0.5, b2=0.9, eps=1e-8, accumulation=accumulation)
    return config


def _vq_losses(factor: int, name: str) -> dict:
    """When and how much the critic counts."""
    if factor == 8:
        return dict(critic_start=1, critic_weight=0.6, critic_layers=2)
    if factor in (16, 32):
        return dict(critic_start=250_001, critic_weight=0.75, critic_layers=2)
    return dict(critic_start=11 if name.endswith("noattn") else 0, critic_weight=0.75)


def make_small(config: ConfigDict) -> ConfigDict:
    """Four steps of narrow networks on photographs inside the installed packages."""
    network = config.latent.network
    network.update(width=32, channel_mult=(1,) * len(network.channel_mult), num_blocks=1)
    if config.latent.kind == "vq":
        network.num_codes = 64
    side = max(32, 2 ** len(network.channel_mult))  # two places of latents, and enough for the critic
    config.data.update(source="builtin:photos", image_size=side, batch_size=8)
    config.optimizer.accumulation = 1
    config.reconstruction.update(critic_start=2, critic_width=8)
    config.train.update(num_steps=4, log_every=2, grid_every=4, grid_size=4)
    config.checkpoint.update(save_every=2, keep_every=None)
    config.eval.num = 16
    return config
