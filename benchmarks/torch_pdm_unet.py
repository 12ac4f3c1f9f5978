"""The train step of `pdm_jax` once more, in plain PyTorch: the yardstick of `train_step.py`.

The same network (PDM's U-Net, class embedding added to the time vector), loss (sqrt-SNR weighted x0 error and
L_vlb), Adam, clipping and averaged weights, written as a PyTorch user would. Layout is (B, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pdm_jax.config import Config
from pdm_jax.diffusion import Process, make_process

NORM_EPS, NUM_GROUPS, HEAD_DIM = 1e-3, 32, 64


def make_train_step(config: Config, *, channels_last: bool, compiled: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of uint8 images (B, C, H, W) and labels [B] that updates the model in place and returns the loss."""
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = PatchedUNet(config).to(memory_format=layout)
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema.decay))
    settings = config.optimizer
    betas = (settings.b1, settings.b2)
    adam = torch.optim.Adam(model.parameters(), settings.learning_rate, betas, eps=settings.eps, fused=True)
    warmup = torch.optim.lr_scheduler.LinearLR(adam, 1e-8, 1.0, max(settings.warmup_steps, 1))
    loss_fn = Loss(config, model)
    loss_fn = torch.compile(loss_fn) if compiled else loss_fn

    def train_step(images: Tensor, labels: Tensor) -> Tensor:
        loss = loss_fn(images.contiguous(memory_format=layout), labels)
        adam.zero_grad()
        loss.backward()
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        adam.step()
        warmup.step()
        ema.update_parameters(model)
        return loss

    train_step.num_params = sum(p.numel() for p in model.parameters())
    return train_step


class Loss(nn.Module):
    """The mean of sqrt(SNR) |x0_hat - x0|^2 + vlb_weight * L_vlb over a batch, at random steps."""

    def __init__(self, config: Config, model: nn.Module):
        super().__init__()
        self.model, self.config, self.num_classes = model, config.loss, config.model.num_classes
        process: Process = make_process(config.diffusion)
        tables = ("signal", "sigma", "posterior_x0", "posterior_z", "posterior_log_variance", "log_beta")
        for name in tables:
            self.register_buffer(name, torch.from_numpy(getattr(process, name).astype(np.float32)))
        self.register_buffer("weight", torch.from_numpy(np.sqrt(process.snr).astype(np.float32)))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x0 = images.float() / 127.5 - 1
        t = torch.randint(self.config.t_min, self.config.t_max, labels.shape)
        dropped = torch.rand(labels.shape) < self.config.label_dropout
        labels = torch.where(dropped, self.num_classes, labels)
        z_t = self._at("signal", t) * x0 + self._at("sigma", t) * torch.randn_like(x0)
        x0_hat, v = self.model(z_t, t, labels)
        simple = self.weight[t] * (x0_hat - x0).square().flatten(1).sum(1)
        return (simple + self.config.vlb_weight * self._vlb(x0, x0_hat.detach(), v, z_t, t)).mean()

    def _vlb(self, x0: Tensor, x0_hat: Tensor, v: Tensor, z_t: Tensor, t: Tensor) -> Tensor:
        """KL(q(z_s | z_t, x0) || p(z_s | z_t)) summed over pixels, [B]; v is 1 towards the small variance."""
        small, large = self._at("posterior_log_variance", t), self._at("log_beta", t)
        log_variance = v * small + (1 - v) * large
        mean, mean_hat = (self._at("posterior_x0", t) * x + self._at("posterior_z", t) * z_t for x in (x0, x0_hat))
        gap = log_variance - small
        kl = 0.5 * (gap + torch.expm1(-gap) + (mean - mean_hat).square() * torch.exp(-log_variance))
        return torch.where(t > 0, kl.flatten(1).sum(1), 0.0)

    def _at(self, name: str, t: Tensor) -> Tensor:
        return getattr(self, name)[t][:, None, None, None]


class PatchedUNet(nn.Module):
    """PDM's U-Net over patches: `pdm_jax.networks.PDMUNet` inside `patched`."""

    def __init__(self, config: Config):
        super().__init__()
        network, self.patch_size = {"attn_levels": ()} | dict(config.model.network), config.model.patch_size
        width, widths = network["width"], [int(network["width"] * m) for m in network["channel_mult"]]
        channels, time_dim = config.data.channels * self.patch_size**2, widths[-1]
        grid = config.data.image_size // self.patch_size
        self.width = width
        self.time_mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, time_dim), nn.SiLU())
        num_classes = config.model.num_classes
        self.label_embedding = nn.Embedding(num_classes + 1, time_dim) if num_classes else None
        self.conv_in = conv3x3(channels, width)
        self.register_buffer("grid_code", grid_code(grid, width))
        self.encoder, skips = _encoder(widths, network, time_dim)
        self.middle = nn.ModuleList(
            [Stage(widths[-1], widths[-1], time_dim, attend=True), Stage(widths[-1], widths[-1], time_dim)]
        )
        self.decoder = _decoder(widths, network, time_dim, skips)
        self.out = nn.Sequential(nn.GroupNorm(NUM_GROUPS, width, NORM_EPS), nn.SiLU(), conv3x3(width, channels))
        self.variance_modulation = nn.Linear(time_dim, 2 * width)
        self.variance_head = nn.Sequential(
            nn.SiLU(), conv3x3(2 * width, width), nn.SiLU(), conv3x3(width, channels), nn.Sigmoid()
        )

    def forward(self, z_t: Tensor, t: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """z_t (B, C, H, W) at t [B] to x0 and the variance's share, of the same shape."""
        time = self.time_mlp(time_code(t, self.width))
        signal = time if self.label_embedding is None else time + self.label_embedding(labels)
        h = self.conv_in(F.pixel_unshuffle(z_t, self.patch_size)) + self.grid_code
        first, skips = h, [h]
        for entry in self.encoder:
            h = entry(h, signal)
            skips.append(h)
        for entry in self.middle:
            h = entry(h, signal)
        for entry in self.decoder:
            h = entry(torch.cat([h, skips.pop()], dim=1), signal)
        features = torch.cat([first, h], dim=1).detach()
        features = features + self.variance_modulation(F.silu(time))[:, :, None, None]
        outputs = self.out(h), self.variance_head(features)
        return tuple(F.pixel_shuffle(x, self.patch_size) for x in outputs)


class ResBlock(nn.Module):
    """Two normalised convolutions, the second norm scaled and shifted by time, around a skip."""

    def __init__(self, in_features: int, features: int, time_dim: int, *, project: bool):
        super().__init__()
        self.norm_in = nn.GroupNorm(NUM_GROUPS, in_features, NORM_EPS)
        self.conv_in = conv3x3(in_features, features)
        self.modulation = nn.Linear(time_dim, 2 * features)
        self.norm_out = nn.GroupNorm(NUM_GROUPS, features, NORM_EPS, affine=False)
        self.conv_out = conv3x3(features, features)
        self.skip = nn.Conv2d(in_features, features, 1) if project else nn.Identity()

    def forward(self, x: Tensor, signal: Tensor) -> Tensor:
        h = self.conv_in(F.silu(self.norm_in(x)))
        scale, shift = self.modulation(signal)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_out(F.silu(self.norm_out(h) * (1 + scale) + shift))
        return h + self.skip(x)


class Attention(nn.Module):
    """Self-attention over all places of the grid."""

    def __init__(self, features: int):
        super().__init__()
        self.norm = nn.GroupNorm(NUM_GROUPS, features, NORM_EPS)
        self.qkv = nn.Linear(features, 3 * features)
        self.out = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x).flatten(2).transpose(1, 2)  # (B, H W, C)
        q, k, v = (part.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for part in self.qkv(h).chunk(3, dim=-1))
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(h).transpose(1, 2).unflatten(2, x.shape[2:])


class Down(nn.Module):
    """Halves the resolution by a strided convolution."""

    def __init__(self, in_features: int, features: int):
        super().__init__()
        self.conv = nn.Conv2d(in_features, features, 3, stride=2)

    def forward(self, x: Tensor, signal: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Stage(nn.Module):
    """A block, then attention, then upsampling to `up_to` channels where present."""

    def __init__(self, in_features: int, features: int, time_dim: int, *, attend=False, project=False, up_to=None):
        super().__init__()
        self.block = ResBlock(in_features, features, time_dim, project=project)
        self.attention = Attention(features) if attend else nn.Identity()
        up = (nn.Upsample(scale_factor=2), conv3x3(features, up_to)) if up_to else ()
        self.up = nn.Sequential(*up)

    def forward(self, x: Tensor, signal: Tensor) -> Tensor:
        return self.up(self.attention(self.block(x, signal)))


def conv3x3(in_features: int, features: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(in_features, features, 3, padding=1)


def time_code(t: Tensor, width: int) -> Tensor:
    """Sines and cosines of t [B]: (B, width)."""
    half = width // 2
    angle = t.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / (half - 1))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def grid_code(size: int, channels: int) -> Tensor:
    """The code of each place of a square grid: (1, channels, size, size)."""
    half = channels // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half) / (half - 1))
    code = torch.sin(frequencies[:, None] * torch.arange(size) * (64 / size))  # (half, size)
    col, row = code[:, None, :].expand(-1, size, -1), code[:, :, None].expand(-1, -1, size)
    return torch.cat([col, row])[None].contiguous()


def _encoder(widths: list[int], network, time_dim: int) -> tuple[nn.ModuleList, list[int]]:
    entries, skips = [], [widths[0]]
    for level, features in enumerate(widths):
        for _ in range(network["num_blocks"]):
            entries.append(Stage(features, features, time_dim, attend=level in network["attn_levels"]))
            skips.append(features)
        if level + 1 < len(widths):
            entries.append(Down(features, widths[level + 1]))
            skips.append(widths[level + 1])
    return nn.ModuleList(entries), skips


def _decoder(widths: list[int], network, time_dim: int, skips: list[int]) -> nn.ModuleList:
    entries, skips, h = [], list(skips), widths[-1]
    for level in reversed(range(len(widths))):
        for i in range(network["num_blocks"] + 1):
            up_to = widths[level - 1] if level > 0 and i == network["num_blocks"] else None
            attend = level in network["attn_levels"]
            entries.append(Stage(h + skips.pop(), widths[level], time_dim, attend=attend, project=True, up_to=up_to))
            h = up_to or widths[level]
    return nn.ModuleList(entries)
