"""What is compared: four networks, and the six rows that are sampled from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from pdm_jax.config import CodeConfig, Config, DataConfig, EmaConfig, LossConfig, ModelConfig, OptimizerConfig
from pdm_jax.denoisers.bind import as_denoiser
from pdm_jax.denoisers.pixel_patches import half_shifted, independent, randomly_shifted
from pdm_jax.systems import System, make_system
from pdm_jax.systems.patch_dm import make_network
from pdm_jax.types import Cond, Denoiser, Params

CODE_DIM = 64


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table."""

    network: str  # that it is sampled from
    meet: Callable[[Denoiser, int], Denoiser] | None  # how patches meet; None is by collage
    paper: float | None  # FID in table 4


# In the paper's order, best first; its figure 2a, which the table lacks, comes last.
ROWS = {
    "Patch-DM": Row("collage", None, 37.99),
    "no position": Row("no position", None, 48.82),
    "pixel space fixed shift": Row("patches", half_shifted, 49.80),
    "pixel space random shift": Row("patches", randomly_shifted, 52.11),
    "no semantic code": Row("no code", None, 79.33),
    "independent patches": Row("patches", independent, None),
}


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is computed."""

    image_size: int
    patch_size: int
    channel_mult: tuple[int, ...]  # of the U-Net and of the encoder
    num_images: int  # at most, to train on
    num_samples: int  # of each row and seed; as many photographs are held out
    num_steps: int  # of training
    batch_size: int
    sampling_steps: int
    num_seeds: int


SCALES = {
    "smoke": Scale(16, 4, (1,), 64, 16, num_steps=2, batch_size=4, sampling_steps=2, num_seeds=2),
    "small": Scale(32, 8, (1, 2), 8000, 128, num_steps=400, batch_size=16, sampling_steps=20, num_seeds=2),
    "large": Scale(128, 32, (1, 2, 4), 50_000, 2048, num_steps=20_000, batch_size=64, sampling_steps=50, num_seeds=3),
}


def make_config(network: str, scale: Scale) -> Config:
    """The released setting around a small network; Adam's rate is that of a short run.

    Args:
      network: "collage", "no position", "no code" or "patches".
      scale: its sizes.
    """
    size = {"width": 32, "channel_mult": scale.channel_mult, "num_blocks": 1}
    has_code = network != "no code"
    return Config(
        data=DataConfig("memory", scale.image_size, scale.batch_size),
        model=ModelConfig(
            "patch_dm",
            {**size, "embed_dim": CODE_DIM, "dropout": 0.0},
            backbone="patch_unet",
            patch_size=scale.patch_size,
            prediction="v",
        ),
        loss=LossConfig(
            "plain" if network == "patches" else "both", target="v", position_dropout=float(network == "no position")
        ),
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=50, clip_norm=1.0, eps=1e-8),
        codes=CodeConfig("encoder", CODE_DIM, network=size) if has_code else CodeConfig("none"),
        ema=EmaConfig(decay=0.99),
    )


def system_of(config: Config, network: str) -> System:
    """What is trained, and sampled with collage."""
    system = make_system(config)
    if network == "no position":
        return dataclasses.replace(system, cond=lambda *arguments: _placeless(system.cond(*arguments)))
    return system


def sampled(system: System, config: Config, row: str) -> System:
    """The system as a row of the table samples it."""
    meet = ROWS[row].meet
    if meet is None:
        return system
    unet = make_network(config.model, config.codes, config.data.channels)

    def denoiser(params: Params) -> Denoiser:
        patches = as_denoiser(unet.bind(params["network"]["unet"]), system.process, prediction=config.model.prediction)
        return meet(patches, config.model.patch_size)

    return dataclasses.replace(system, denoiser=denoiser)


def _placeless(cond: Cond) -> Cond:
    return dataclasses.replace(cond, position=cond.position.at[..., 2].set(0))
