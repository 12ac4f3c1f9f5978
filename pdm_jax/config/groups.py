"""The config groups as frozen dataclasses.

A field marked `free` may differ between a run and its continuation: it changes what is reported, kept or when the run
ends, never the numbers of a training step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pdm_jax.errors import UserError

_NEEDED = dataclasses.MISSING


def _field(default: Any = _NEEDED, *, free: bool = False, least: float | None = None, most: float | None = None) -> Any:
    """A field with what `read` and `differences` need to know of it; `least` and `most` are allowed themselves."""
    return dataclasses.field(default=default, metadata={"free": free, "least": least, "most": most})


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where images come from and how they become (height, width, channels) uint8 arrays."""

    # codes:WORKDIR (for code_prior), latents:PATTERN (of `pdm data encode`), or
    # builtin:digits | builtin:photos | builtin:scenes | folder:PATH | zip:PATH | arrayrecord:PATTERN | npz:PATTERN
    # | tfds:NAME
    source: str
    image_size: int | Sequence[int] = _field(least=1)  # of squares, or (height, width)
    batch_size: int = _field(least=1)  # over all devices and hosts
    channels: int = 3  # 3 (RGB) or 1 (grey)
    split: str = "train"  # which part, where the source has parts (tfds)
    crop: str = "center"  # center | random | stretch (no crop: resized whatever the aspect)
    min_crop: float = _field(
        0.8, least=0.01, most=1
    )  # random crop: the smallest part of the shorter side that is kept, in (0, 1]
    flip: bool = False  # mirror left-right with probability 1/2
    num_workers: int = _field(0, free=True, least=0)  # decoding processes; 0 decodes in threads

    @property
    def size(self) -> tuple[int, int]:
        """(height, width); raises `UserError` for a list that is no pair."""
        size = (self.image_size,) * 2 if isinstance(self.image_size, int) else tuple(self.image_size)
        if len(size) != 2:
            raise UserError(f"config.data.image_size is {list(size)}; expected one number, or (height, width)")
        return size

    @property
    def fixed_crop(self) -> str:
        """How images are cropped where nothing is drawn at random."""
        return "stretch" if self.crop == "stretch" else "center"


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """The noise process."""

    schedule: str = "linear"  # linear | cosine | ldm_linear | sqrt_linear | sqrt | constant
    num_steps: int = _field(1000, least=1)  # T
    beta_min: float = _field(1e-4, least=0, most=1)
    beta_max: float = _field(0.02, least=0, most=1)
    dtype: str = "float64"  # in which the tables are computed: float64 | float32 (as some official programs)
    last_alpha: str = "one"  # alpha_bar before t=0 in the posterior: one | first (alpha_bar of t=0, as PDM)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What is trained."""

    system: str  # a module of pdm_jax.systems: pdm | patch_dm | code_prior | autoencoder | ldm | classifier
    network: Mapping[str, Any]  # the network's own keyword arguments
    # pdm_unet | adm_unet | vit; ldm_unet in ldm; patch_unet or, collaged, the first two in patch_dm
    backbone: str = "pdm_unet"
    patch_size: int | Sequence[int] = 1  # P: pixels moved to channels (for a split model maybe one a part), or the
    # side of Patch-DM's patches
    prediction: str = "x0"  # what the network puts out: x0 | eps | v
    num_classes: int = _field(0, least=0)  # 0 is unconditional
    dtype: str = "float32"  # compute: float32 | bfloat16


@dataclasses.dataclass(frozen=True)
class CodeConfig:
    """Patch-DM's semantic codes: one vector an image, which tells its patches what they are part of."""

    kind: str = "none"  # none | table (one trained vector a training image) | encoder (a network reads the image)
    dim: int = _field(512, least=1)
    num: int | None = _field(None, least=1)  # rows of the table, one an image of the data; None takes their number
    # of the table: random | thumbnail (a projection of each image's) | clip:FOLDER (image features of CLIP, ViT-B/16
    # in the paper)
    init: str = "random"
    network: Mapping[str, Any] | None = None  # the encoder's own keyword arguments
    optimizer: str = "dense"  # Adam of the table: dense (every row at every step) | rows (those of the batch)


@dataclasses.dataclass(frozen=True)
class LatentConfig:
    """The first stage of latent diffusion (LDM section 3.1), in its own run and in those on its latents."""

    kind: str = "none"  # none (diffusion of pixels) | kl | vq
    network: Mapping[str, Any] | None = None  # the autoencoder's own keyword arguments; None takes first_stage's
    first_stage: str | None = _field(None, free=True)  # workdir that its weights come from; each checkpoint keeps them
    # groups in which the first stage's own run differs from this config: it is trained first, in WORKDIR/first_stage
    training: Mapping[str, Mapping[str, Any]] | None = None
    scale: float | None = 1.0  # latents are multiplied by it; None is 1 / deviation of the first batch's
    dtype: str = "float32"  # of its computation: float32 | bfloat16


@dataclasses.dataclass(frozen=True)
class ReconstructionConfig:
    """What a first stage is trained for (LDM appendix G): to reconstruct, to look real, and to keep little."""

    # files of VGG16 and of LPIPS's heads, "VGG16.pth,HEADS.pth"; None leaves the term out
    perceptual: str | None = None
    perceptual_weight: float = _field(1.0, least=0)
    kl_weight: float = _field(1e-6, least=0)  # kind kl; both terms are sums over an image
    codebook_weight: float = _field(1.0, least=0)  # kind vq; all terms are means
    beta: float = _field(0.25, least=0)  # of the codebook's part of its term (the program's order)
    critic_loss: str = "hinge"  # hinge | vanilla
    critic_weight: float = _field(0.5, least=0)  # times the ratio of gradients; 0 trains without a critic
    critic_start: int = _field(50_001, least=0)  # step from which the critic counts
    critic_layers: int = _field(3, least=1)
    critic_width: int = _field(64, least=1)


@dataclasses.dataclass(frozen=True)
class ConditionConfig:
    """What the system ldm is told of an image besides a label that its network embeds itself."""

    kinds: Sequence[str] = ()  # class | text | layout, read by attention; semantic | superres | inpaint, beside z_t
    networks: Mapping[str, Mapping[str, Any]] | None = None  # of each kind, the keyword arguments of what reads it
    # of text: a tokenizer.json, which is kept in the workdir; None trains one on the captions of the data
    tokenizer: str | None = _field(None, free=True)
    object_classes: int | None = _field(None, least=1)  # of layout; None takes as many as the data has names of
    factor: int = _field(4, least=2)  # of superres: how much smaller the image is that it is told
    degradation: str = "bicubic"  # of superres: bicubic | bsr (the released model's) | bsr_full
    mask: str = "mixed"  # of inpaint: thin | medium | thick | mixed


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Several networks, each for its range of steps (PDM section 4.1); without a boundary there is one for all.

    Two are called high and low (noise), more part0, part1, ...; the noisiest comes first everywhere.
    """

    boundaries: int | Sequence[int] = ()  # S, descending: the first network serves t >= the first boundary
    snr: float | Sequence[float] = ()  # boundaries as signal-to-noise ratios, ascending; 0.25 is S = 396 in PDM
    parts: Sequence[Mapping[str, Any]] = ()  # one a network: groups with the settings in which it differs
    warm_start: bool = True  # a network begins with the averaged weights of the one before it


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The training objective; all terms are means over the global batch."""

    # sqrt_snr (pixel sum of the x0 error times sqrt(SNR), PDM) | mse (pixel mean) | l1
    # of patch_dm: shifted (its paper) | both (its program: shifted patches and, without collage, those they are of)
    # | plain (without collage, on patches from anywhere)
    kind: str = "sqrt_snr"
    target: str = "x0"  # which error: x0 | eps | v (sqrt_snr: x0)
    vlb_weight: float = _field(
        0.0, least=0
    )  # of L_vlb (pixel sum, nats). PDM's own balance is its batch size per replica.
    t_min: int = 0  # training steps are uniform in [t_min, t_max)
    t_max: int = 1000
    label_dropout: float = _field(0.0, least=0, most=1)  # probability that a label becomes the null label
    code_dropout: float = _field(0.0, least=0, most=1)  # that an image's semantic code becomes zero
    position_dropout: float = _field(0.0, least=0, most=1)  # that all patches of an image lose their positions
    context_dropout: float = _field(0.0, least=0, most=1)  # that a caption or layout becomes the empty one


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam (AdamW where weight_decay is above 0) with linear warm-up, then a schedule."""

    learning_rate: float = _field(1e-4, least=0)
    warmup_steps: int = _field(0, least=0)
    schedule: str = "constant"  # after warm-up: constant | linear | cosine
    schedule_steps: int | None = _field(None, least=1)  # when a linear or cosine one has ended, warm-up included
    start_factor: float = _field(0.0, least=0)  # of learning_rate, where warm-up starts
    end_factor: float = _field(0.0, least=0)  # of learning_rate, where a linear or cosine schedule ends
    restarts: Sequence[Mapping[str, Any]] = ()  # cycles that follow, each with what differs of the settings above
    b1: float = _field(0.9, least=0, most=1)
    b2: float = _field(0.999, least=0, most=1)
    eps: float = _field(1e-7, least=0)
    weight_decay: float = _field(0.0, least=0)  # decoupled, times the rate
    clip_norm: float | None = _field(None, least=0)  # largest global gradient norm
    accumulation: int = _field(1, least=1)  # micro-batches a step; the batch must divide by it


@dataclasses.dataclass(frozen=True)
class EmaConfig:
    """Averaged weights: ema = decay * ema + (1 - decay) * params whenever step % every == 0."""

    decay: float = _field(0.9999, least=0, most=1)
    every: int = _field(1, least=1)
    warmup: bool = False  # the decay of the n-th update is at most (1 + n) / (10 + n)
    place: str = "device"  # device | host (one copy in host memory, as PDM)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When a checkpoint is written and how long it is kept."""

    save_every: int = _field(1000, free=True, least=1)
    keep_last: int = _field(3, free=True, least=1)
    keep_every: int | None = _field(None, free=True, least=1)  # also keep each multiple of this for ever


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The length of a run and what it reports."""

    num_steps: int = _field(1000, free=True, least=1)
    log_every: int = _field(100, free=True, least=1)
    grid_every: int | None = _field(None, free=True, least=1)  # sample grid every so many steps; None is never
    grid_size: int = _field(16, free=True, least=1)  # images in the grid


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """What `pdm eval` compares with, and what is measured while training."""

    num: int = _field(50_000, free=True, least=1)  # images that `pdm eval` makes
    source: str | None = _field(None, free=True)  # real images to compare with; None is the training data
    split: str | None = _field(None, free=True)  # which part of them; None is the training data's
    every: int | None = _field(None, free=True, least=1)  # measure in training every so many steps; None is never
    metric: str = _field("loss", free=True)  # loss (of a fixed set with fixed noise) | fid (of local features)
    fixed_num: int = _field(512, free=True, least=2)  # images of the fixed set


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Defaults of sampling; each has a flag of `pdm sample`."""

    sampler: str = _field("ancestral", free=True)  # ancestral | ddim | plms
    steps: str = _field("250", free=True)  # a count, sections "90,60,60,20,20", "ddim50", "uniform50" or "quad50"
    eta: float = _field(0.0, free=True)  # DDIM's noise: 0 is deterministic, 1 is as noisy as ancestral
    temperature: float = _field(1.0, free=True, least=0)  # what the sampler's noise is multiplied by
    last_alpha: str = _field("one", free=True)  # alpha_bar that the last step goes to: one | first
    clip: str = _field("none", free=True)  # of x0, at each step: none | static (to [-1, 1]) | dynamic (percentile)
    percentile: float = _field(99.5, free=True)  # of |x0| that a dynamic clip goes to, in (0, 100], nearest rank
    guidance: float = _field(1.0, free=True)  # w in uncond + w (cond - uncond); 1 is none
    guidance_from: int = _field(0, free=True, least=0)  # guidance acts where guidance_from <= t < guidance_to
    guidance_to: int | None = _field(None, free=True, least=1)  # None is T
    unguided_last: bool = _field(False, free=True)  # the last step is neither guided nor clipped (PDM's program)
    max_patches: int | None = _field(None, free=True, least=1)  # patch_dm: computed at once on a device; None is all
    tile: int | None = _field(None, free=True, least=8)  # latents denoised at once, a side; None is all
    decode_tile: int | None = _field(None, free=True, least=8)  # latents decoded at once, a side; None is all


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How devices are arranged; at most one entry may be -1 (all that are left)."""

    data: int = _field(-1, free=True)  # each has its share of the batch
    fsdp: int = _field(1, free=True)  # and of parameters and optimiser state as well
    space: int = _field(1, free=True)  # each has some rows of every image


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    data: DataConfig
    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    diffusion: DiffusionConfig = DiffusionConfig()
    codes: CodeConfig = CodeConfig()
    latent: LatentConfig = LatentConfig()
    reconstruction: ReconstructionConfig = ReconstructionConfig()
    condition: ConditionConfig = ConditionConfig()
    split: SplitConfig = SplitConfig()
    ema: EmaConfig = EmaConfig()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    sample: SampleConfig = SampleConfig()
    eval: EvalConfig = EvalConfig()
    mesh: MeshConfig = MeshConfig()
    seed: int = _field(0, least=0, most=2**32 - 1)
