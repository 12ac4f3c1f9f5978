"""What the U-Nets of ADM's family share: how their stages are put together, and the way through them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.adm_blocks import (
    NORM_EPS,
    ADMSettings,
    Attention,
    ResBlock,
    Signals,
    Stage,
    conv3x3,
    dense,
    down,
    up,
)
from pdm_jax.networks.layers import GroupNorm
from pdm_jax.networks.pdm_unet import Features
from pdm_jax.ops.embeddings import cosine_code
from pdm_jax.types import Array


@dataclasses.dataclass(frozen=True)
class Builder:
    """Puts a network's own layers together; all are called as `layer(x, signals)`."""

    widths: Sequence[int]  # of the levels, finest first
    num_blocks: int  # blocks a level
    attn_levels: Sequence[int]
    block: Callable[[int, int], nnx.Module]  # (in_features, features) -> block
    attention: Callable[[int], nnx.Module]  # (features) -> attention
    down: Callable[[int], nnx.Module]  # (features) -> half the resolution
    up: Callable[[int], nnx.Module] | None = None  # (features) -> twice the resolution; None: there is no decoder

    @property
    def skips(self) -> list[int]:
        """The widths of all skips, the input convolution's first."""
        skips = [self.widths[0]]
        for level, features in enumerate(self.widths):
            skips += [features] * (self.num_blocks + (level + 1 < len(self.widths)))
        return skips

    def encoder(self) -> nnx.List:
        """The encoder's stages: blocks, and after each level but the last half the resolution."""
        stages, h = [], self.widths[0]
        for level, features in enumerate(self.widths):
            for _ in range(self.num_blocks):
                stages.append(Stage(self._layers(h, level)))
                h = features
            if level + 1 < len(self.widths):
                stages.append(Stage([self.down(features)]))
        return nnx.List(stages)

    def middle(self) -> Stage:
        """Two blocks around attention."""
        features = self.widths[-1]
        return Stage([self.block(features, features), self.attention(features), self.block(features, features)])

    def decoder(self) -> nnx.List:
        """The decoder's stages: at each level one block more than in the encoder, each with a skip."""
        stages, skips, h = [], self.skips, self.widths[-1]
        for level, features in reversed(list(enumerate(self.widths))):
            for i in range(self.num_blocks + 1):
                layers = self._layers(h + skips.pop(), level)
                if level > 0 and i == self.num_blocks:
                    layers.append(self.up(features))
                stages.append(Stage(layers))
                h = features
        return nnx.List(stages)

    def _layers(self, in_features: int, level: int) -> list[nnx.Module]:
        """A block, then attention where the level has it."""
        features = self.widths[level]
        block = self.block(in_features, features)
        return [block, self.attention(features)] if level in self.attn_levels else [block]


def adm_builder(
    widths: Sequence[int],
    num_blocks: int,
    attn_levels: Sequence[int],
    settings: ADMSettings,
    rngs: nnx.Rngs,
    attention: Callable[..., nnx.Module] = Attention,
) -> Builder:
    """A builder of ADM's layers, with another `attention(features, settings, rngs=rngs)` where one is given."""
    return Builder(
        widths,
        num_blocks,
        attn_levels,
        block=lambda in_features, features: ResBlock(in_features, features, settings, rngs=rngs),
        attention=lambda features: attention(features, settings, rngs=rngs),
        down=lambda features: down(features, settings, rngs),
        up=lambda features: up(features, settings, rngs),
    )


class UNetEncoder(nnx.Module):
    """The half of a U-Net down to and including the middle, and the vector of time and label.

    A label's row is added to the time vector where there are classes. The input convolution is float32.
    """

    def __init__(
        self,
        builder: Builder,
        *,
        in_channels: int,
        width: int,
        num_classes: int,
        has_null: bool,
        use_remat: bool,
        dtype,
        rngs: nnx.Rngs,
    ):
        self.width, self.num_levels, self.num_classes = width, len(builder.widths), num_classes
        self.use_remat, self.dtype = use_remat, dtype
        self.time_in = dense(width, 4 * width, dtype=dtype, rngs=rngs)
        self.time_out = dense(4 * width, 4 * width, dtype=dtype, rngs=rngs)
        normal = nnx.initializers.normal(1.0)
        self.label_embedding = (
            nnx.Embed(num_classes + has_null, 4 * width, embedding_init=normal, dtype=dtype, rngs=rngs)
            if num_classes
            else None
        )
        self.conv_in = conv3x3(in_channels, builder.widths[0], dtype=jnp.float32, rngs=rngs)
        self.encoder, self.middle = builder.encoder(), builder.middle()

    def embed(self, t: Array, label: Array | None) -> Array:
        """The vector (B or 1, 4 width) of steps t [B] or [1] and labels [B], not activated yet."""
        vector = self.time_out(jax.nn.swish(self.time_in(cosine_code(t, self.width))))
        if self.label_embedding is None:
            return vector
        if label is None:
            raise UserError(f"this network has {self.num_classes} classes and needs labels")
        return vector + self.label_embedding(label)

    def check_size(self, size: tuple[int, int]) -> None:
        """Raises a `UserError` unless latents of `size` (height, width) can be halved down through the levels."""
        factor = 2 ** (self.num_levels - 1)
        if size[0] % factor or size[1] % factor:
            raise UserError(
                f"latents of {size[0]}x{size[1]} cannot be halved {self.num_levels - 1} times; choose images whose "
                f"latents have sides that divide by {factor}, or fewer levels in network.channel_mult"
            )

    def descend(self, x: Array, signals: Signals) -> Features:
        """The features of x (B, H, W, in_channels); the skips in the order they are made."""
        h = self.conv_in(x).astype(self.dtype)
        skips = [h]
        for stage in self.encoder:
            h = self._run(stage, h, signals)
            skips.append(h)
        return Features(self._run(self.middle, h, signals), tuple(skips))

    def _run(self, stage: Stage, h: Array, signals: Signals) -> Array:
        return jax.checkpoint(lambda h, s: stage(h, s))(h, signals) if self.use_remat else stage(h, signals)


class UNet(UNetEncoder):
    """Both halves, with skips between them, and an output head in float32 that starts at zero."""

    def __init__(self, builder: Builder, *, out_channels: int, rngs: nnx.Rngs, **settings: Any):
        super().__init__(builder, rngs=rngs, **settings)
        self.decoder = builder.decoder()
        self.norm_out = GroupNorm(builder.widths[0], norm_eps=NORM_EPS, rngs=rngs)
        self.conv_out = conv3x3(builder.widths[0], out_channels, zero_init=True, dtype=jnp.float32, rngs=rngs)

    def ascend(self, features: Features, signals: Signals) -> Array:
        """The output (B, H, W, out_channels) float32 of features, which may be a collage of others'."""
        h, skips = features.mid, list(features.skips)
        for stage in self.decoder:
            h = self._run(stage, jnp.concatenate([h, skips.pop()], axis=-1), signals)
        assert not skips, f"{len(skips)} skips left over"
        return self.conv_out(jax.nn.swish(self.norm_out(h.astype(jnp.float32))))


def check_levels(width: int, channel_mult: Sequence[float], num_blocks: int, attn_levels: Sequence[int]) -> list[int]:
    """The width of each level; errors name the setting."""
    if width % 2 or width < 4:
        raise UserError(f"network.width is {width}; expected an even number of at least 4")
    if not channel_mult:
        raise UserError("network.channel_mult is empty; expected one factor of the width a level, finest first")
    if not isinstance(num_blocks, int) or num_blocks < 1:
        raise UserError(f"network.num_blocks is {num_blocks}; expected one number of at least 1 for all levels")
    if wrong := [level for level in attn_levels if not 0 <= level < len(channel_mult)]:
        raise UserError(f"network.attn_levels has {wrong}; the levels are 0 (finest) to {len(channel_mult) - 1}")
    return [int(width * mult) for mult in channel_mult]


def check_attention(head_dim: int, num_heads: int | None, attention_order: str) -> None:
    """Raises a `UserError` that names the setting unless attention can be built of these."""
    for name, value in (("head_dim", head_dim), ("num_heads", 1 if num_heads is None else num_heads)):
        if value < 1:
            raise UserError(f"network.{name} is {value}; expected at least 1")
    if attention_order not in ("new", "legacy"):
        raise UserError(f"network.attention_order is {attention_order!r}; expected 'new' or 'legacy'")
