"""How much is computed at each scale, and the configs of first stages and of diffusion on their latents."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pdm_jax.config import (
    CheckpointConfig,
    ConditionConfig,
    Config,
    DataConfig,
    DiffusionConfig,
    EmaConfig,
    LatentConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ReconstructionConfig,
    TrainConfig,
)

FACTORS = (1, 2, 4, 8)
CHANNELS = {1: 3, 2: 2, 4: 3, 8: 4}  # of latents, as in table 14
_KIND = "kl"  # of all first stages
_PAPER_STEPS = 500_000


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is computed."""

    image_size: int  # a multiple of 16
    num_images: int  # at most, to train on
    num_samples: int  # of each measurement; as many images are held out
    first_steps: int  # of training of each first stage
    num_steps: tuple[int, ...]  # of training, at which samples are measured; ascending
    batch_size: int
    sampling_steps: tuple[int, ...]  # of DDIM, ascending
    speed_size: int  # of images whose speed is measured
    repeats: int  # of each speed
    learning_rate: float
    stage: Mapping[str, Any]  # what all first stages have
    levels: Mapping[int, tuple[int, ...]]  # channel_mult of the first stage of each f
    networks: Mapping[int, Mapping[str, Any]]  # U-Net of each f; all have about as many parameters


_SMALL = {"num_blocks": 1, "use_scale_shift_norm": True}
_NETWORKS = {  # 1.19 to 1.31 million parameters
    1: {"width": 32, "channel_mult": (1, 1, 2, 2), "attn_levels": (3,), **_SMALL},
    2: {"width": 32, "channel_mult": (1, 2, 2), "attn_levels": (2,), **_SMALL},
    4: {"width": 64, "channel_mult": (1, 1), "attn_levels": (0, 1), **_SMALL},
    8: {"width": 64, "channel_mult": (1, 1), "attn_levels": (1,), **_SMALL},
}
_LEAST = {factor: {"width": 32, "channel_mult": (1,), **_SMALL} for factor in FACTORS}
_PAPER = {  # table 14; attention at 32, 16 and 8 places a side
    1: {"width": 192, "channel_mult": (1, 1, 2, 2, 4, 4), "attn_levels": (3, 4, 5), "num_blocks": 2},
    2: {"width": 192, "channel_mult": (1, 2, 2, 4, 4), "attn_levels": (2, 3, 4), "num_blocks": 2},
    4: {"width": 224, "channel_mult": (1, 2, 3, 4), "attn_levels": (1, 2, 3), "num_blocks": 2},
    8: {"width": 256, "channel_mult": (1, 2, 4), "attn_levels": (0, 1, 2), "num_blocks": 2},
}
_SMALL_STAGE = {
    "stage": {"width": 32, "num_blocks": 1, "mid_attention": False},
    "levels": {2: (1, 1), 4: (1, 1, 1), 8: (1, 1, 1, 1)},
    "learning_rate": 1e-3,
}
SCALES = {
    "smallest": Scale(16, 64, 16, 2, (1, 2), 8, (1, 2), speed_size=16, repeats=2, networks=_LEAST, **_SMALL_STAGE),
    "small": Scale(
        16, 1600, 128, 100, (100, 200), 16, (5, 20), speed_size=64, repeats=5, networks=_NETWORKS, **_SMALL_STAGE
    ),
    "paper": Scale(
        image_size=256,
        num_images=30_000,
        num_samples=5000,
        first_steps=_PAPER_STEPS,
        num_steps=(50_000, 100_000, 200_000, _PAPER_STEPS),
        batch_size=48,
        sampling_steps=(10, 20, 50, 100, 200),
        speed_size=256,
        repeats=10,
        learning_rate=9.6e-5,
        stage={"width": 128, "num_blocks": 2},
        levels={2: (1, 2), 4: (1, 2, 4), 8: (1, 2, 4, 4)},
        networks=_PAPER,
    ),
}


def stage_config(scale: Scale, factor: int) -> Config:
    """The first stage's own run: reconstruction and the KL term, without LPIPS and critic, whose weights are files."""
    return Config(
        data=_data(scale, scale.image_size),
        model=ModelConfig("autoencoder", {}),
        latent=LatentConfig(_KIND, _stage(scale, factor)),
        reconstruction=ReconstructionConfig(critic_weight=0.0),
        loss=LossConfig(),
        optimizer=OptimizerConfig(learning_rate=scale.learning_rate, b1=0.5, b2=0.9),
        ema=EmaConfig(decay=0.9),
        train=TrainConfig(num_steps=scale.first_steps, log_every=max(1, scale.first_steps // 10)),
    )


def diffusion_config(
    scale: Scale,
    factor: int,
    *,
    size: int | None = None,
    latent_scale: float | None = None,
    mask: bool = False,
    model: Mapping[str, Any] | None = None,
) -> Config:
    """LDM-f in the paper's setting (table 14) around the scale's networks.

    Args:
      size: of images; None is the trained one.
      latent_scale: as `config.latent.scale`.
      mask: it fills holes.
      model: settings of `config.model` in place of the LDM U-Net's.
    """
    latent = LatentConfig() if factor == 1 else LatentConfig(_KIND, _stage(scale, factor), scale=latent_scale)
    own = {"system": "ldm", "backbone": "ldm_unet", "prediction": "eps", "network": scale.networks[factor]}
    return Config(
        data=_data(scale, size or scale.image_size),
        model=ModelConfig(**{**own, **(model or {})}),
        latent=latent,
        condition=ConditionConfig(kinds=("inpaint",)) if mask else ConditionConfig(),
        diffusion=DiffusionConfig("ldm_linear", beta_min=0.0015, beta_max=0.0195),
        loss=LossConfig("mse", target="eps"),
        optimizer=OptimizerConfig(learning_rate=scale.learning_rate, weight_decay=0.01, eps=1e-8),
        ema=EmaConfig(decay=0.9999, warmup=True),
        train=TrainConfig(num_steps=scale.num_steps[-1], log_every=scale.num_steps[0]),
        checkpoint=CheckpointConfig(save_every=scale.num_steps[0], keep_last=1, keep_every=scale.num_steps[0]),
    )


def _data(scale: Scale, size: int) -> DataConfig:
    return DataConfig("memory", size, scale.batch_size)


def _stage(scale: Scale, factor: int) -> dict[str, Any]:
    channels = CHANNELS[factor]
    levels = {"channel_mult": scale.levels[factor], "latent_channels": channels, "embed_dim": channels}
    return {**scale.stage, **levels}
