"""PDM on CIFAR-10 with classes, 32x32, patch size 1, 2 or 4; also ADM's U-Net and a ViT on the same data.

  pdm train --config=configs/pdm/cifar10.py:P2 --workdir=runs/cifar --config.data.source=zip:cifar10.zip
  pdm eval --workdir=runs/cifar
  pdm sweep --config=configs/pdm/cifar10.py --patch-sizes=1,2,4 --workdir=runs/cifar-sweep

The source is a folder or zip with a sub-folder a class, or tfds:cifar10.

Variants: P1, P2 (the default), P4; `adm`, ADM's U-Net with its learned variance at P = 1; `vit`, a transformer with
P = 2 and v-prediction; with any of them `smoke`: two steps of narrow networks on photographs inside the packages.

Not in the paper. Parameters: 27,667,590 (P1), 27,698,712 (P2), 27,823,200 (P4), 57,100,294 (adm), 33,712,536 (vit).
"""

import math

from ml_collections import ConfigDict

VARIANTS = ("P1", "P2", "P4", "adm", "vit", "smoke")
_UNET = dict(width=128, channel_mult=(1, 2, 2), num_blocks=2, attn_levels=(1, 2))
_ADM = dict(width=128, channel_mult=(1, 2, 2, 2), num_blocks=3, attn_levels=(1, 2))
_VIT = dict(width=384, depth=12)
_MEAN_BITS = 1 / (32 * 32 * 3 * math.log(2))  # L_vlb is a sum of nats over pixels; beside an MSE, ADM adds mean bits


def get_config(variant: str = "P2") -> ConfigDict:
    words = variant.split(",")
    patch_size = next((p for p in (1, 4) if f"P{p}" in words), 2)
    config = ConfigDict()
    config.data = dict(source="tfds:cifar10", image_size=32, batch_size=128, flip=True)
    config.model = dict(system="pdm", patch_size=patch_size, num_classes=10, dtype="bfloat16", network=_UNET)
    config.loss = dict(vlb_weight=1.0, t_max=999, label_dropout=0.1)
    config.optimizer = dict(learning_rate=2e-4, warmup_steps=1000, b2=0.99, clip_norm=1000.0)
    config.ema = dict(decay=0.9999)
    config.train = dict(num_steps=100_000, log_every=100, grid_every=5000, grid_size=40)
    config.checkpoint = dict(save_every=5000)
    config.sample = dict(sampler="ddim", steps="100", guidance=1.5)
    config.eval = dict(num=10_000, every=5000, metric="loss")
    if "adm" in words:
        config.model.update(backbone="adm_unet", patch_size=1, prediction="eps")
        config.model.network = ConfigDict(_ADM)
        config.loss.update(kind="mse", target="eps", vlb_weight=_MEAN_BITS)
    if "vit" in words:
        config.model.update(backbone="vit", prediction="v")
        config.model.network = ConfigDict(_VIT)
        config.loss.update(kind="mse", target="v", vlb_weight=_MEAN_BITS)
    return smoke(config) if "smoke" in words else config


def smoke(config: ConfigDict) -> ConfigDict:
    """The same run cut down to two steps on a CPU."""
    config.data.update(source="builtin:photos", batch_size=8)
    config.model.num_classes = 0
    is_vit = config.model.get("backbone") == "vit"
    narrow = dict(width=64, depth=2) if is_vit else dict(width=32, head_dim=32, num_blocks=1)
    config.model.network.update(narrow)
    config.train.update(num_steps=2, log_every=1, grid_every=2, grid_size=4)
    config.checkpoint.save_every = 2
    config.sample.update(steps="4", guidance=1.0)
    config.eval.update(num=16, every=2, fixed_num=8)
    return config
