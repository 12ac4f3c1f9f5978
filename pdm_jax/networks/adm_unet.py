"""ADM's U-Net: the network of the program guided-diffusion (Dhariwal & Nichol 2021), layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.adm_blocks import NORM_EPS, ADMSettings, Attention, ResBlock, Stage, conv3x3, dense, down, up
from pdm_jax.networks.layers import GroupNorm
from pdm_jax.networks.pdm_unet import Features, check_grid
from pdm_jax.ops.embeddings import cosine_code
from pdm_jax.types import Array, Cond


class ADMUNet(nnx.Module):
    """A U-Net over pixels (or a grid of patches), with the learned variance of Improved DDPM.

    It does what the program's `UNetModel` does with learned resampling; dropout is left out.

    Args:
      channels: of the input and output.
      width: base width, even and at least 4.
      channel_mult: width factor of each level, finest first; each width is a multiple of 32.
      num_blocks: blocks a level.
      attn_levels: levels with attention after each block (finest is 0); the middle always attends.
      num_classes: 0 for none.
      has_null: the label `num_classes` is the null label, for guidance without a classifier. The program has none.
      learn_variance: whether the network puts out a variance too.
      use_scale_shift_norm: time scales and shifts each block's second norm; otherwise it is added before it.
      resblock_updown: residual blocks change the resolution, by means and repetition; otherwise convolutions do.
      head_dim: channels of an attention head.
      num_heads: heads of every attention, in place of `head_dim`.
      attention_order: "new" or "legacy", which only matters to imported weights (see `adm_blocks.Attention`).
      use_remat: recompute each stage in the backward pass instead of keeping its activations.
      dtype: of the computation. The input convolution, the output head, norm statistics and softmax are float32
        always, as are the parameters.
    """

    def __init__(
        self,
        *,
        channels: int,
        width: int,
        channel_mult: Sequence[float],
        num_blocks: int,
        attn_levels: Sequence[int] = (),
        num_classes: int = 0,
        has_null: bool = True,
        learn_variance: bool = True,
        use_scale_shift_norm: bool = True,
        resblock_updown: bool = True,
        head_dim: int = 64,
        num_heads: int | None = None,
        attention_order: str = "new",
        use_remat: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths = _check_levels(width, channel_mult, num_blocks, attn_levels)
        _check_attention(head_dim, num_heads, attention_order)
        settings = ADMSettings(
            4 * width, use_scale_shift_norm, resblock_updown, head_dim, num_heads, attention_order, dtype
        )
        self.width, self.num_levels, self.num_classes = width, len(widths), num_classes
        self.learn_variance, self.use_remat, self.dtype = learn_variance, use_remat, dtype

        self.time_in = dense(width, 4 * width, dtype=dtype, rngs=rngs)
        self.time_out = dense(4 * width, 4 * width, dtype=dtype, rngs=rngs)
        normal = nnx.initializers.normal(1.0)
        self.label_embedding = (
            nnx.Embed(num_classes + has_null, 4 * width, embedding_init=normal, dtype=dtype, rngs=rngs)
            if num_classes
            else None
        )
        self.conv_in = conv3x3(channels, widths[0], dtype=jnp.float32, rngs=rngs)
        self.encoder, skips = _encoder(widths, num_blocks, attn_levels, settings, rngs)
        self.middle = Stage(
            [
                ResBlock(widths[-1], widths[-1], settings, rngs=rngs),
                Attention(widths[-1], settings, rngs=rngs),
                ResBlock(widths[-1], widths[-1], settings, rngs=rngs),
            ]
        )
        self.decoder = _decoder(widths, num_blocks, attn_levels, skips, settings, rngs)
        self.norm_out = GroupNorm(widths[0], norm_eps=NORM_EPS, rngs=rngs)
        outputs = channels * (1 + learn_variance)
        self.conv_out = conv3x3(widths[0], outputs, zero_init=True, dtype=jnp.float32, rngs=rngs)

    def __call__(self, z_t: Array, t: Array, cond: Cond) -> tuple[Array, Array | None]:
        """z_t (B, H, W, channels) at steps t [B] or [1] to the output and the variance, of the same shape.

        The variance is raw, in ADM's convention (-1 the small one, 1 the large one; see `diffusion.from_adm`) and
        not limited to that range; None if it is not learned.
        """
        return self.decode(self.encode(z_t, t, cond), t, cond)

    def encode(self, z_t: Array, t: Array, cond: Cond) -> Features:
        """The features of z_t down to and including the middle."""
        check_grid(z_t.shape[1:3], self.num_levels)
        time = self._time(t, cond)
        h = self.conv_in(z_t).astype(self.dtype)
        skips = [h]
        for stage in self.encoder:
            h = self._run(stage, h, time)
            skips.append(h)
        return Features(self._run(self.middle, h, time), tuple(skips))

    def decode(self, features: Features, t: Array, cond: Cond) -> tuple[Array, Array | None]:
        """The output and the variance (see `__call__`) from features."""
        time = self._time(t, cond)
        h, skips = features.mid, list(features.skips)
        for stage in self.decoder:
            h = self._run(stage, jnp.concatenate([h, skips.pop()], axis=-1), time)
        assert not skips, f"{len(skips)} skips left over"
        output = self.conv_out(jax.nn.swish(self.norm_out(h.astype(jnp.float32))))
        return tuple(jnp.split(output, 2, axis=-1)) if self.learn_variance else (output, None)

    def _time(self, t: Array, cond: Cond) -> Array:
        """The vector of time and label, activated once for all blocks."""
        time = self.time_out(jax.nn.swish(self.time_in(cosine_code(t, self.width))))
        if self.label_embedding is not None:
            if cond.label is None:
                raise UserError(f"this network has {self.num_classes} classes and needs labels")
            time = time + self.label_embedding(cond.label)
        return jax.nn.swish(time)

    def _run(self, stage: Stage, h: Array, time: Array) -> Array:
        return jax.checkpoint(lambda h, time: stage(h, time))(h, time) if self.use_remat else stage(h, time)


def _stage(
    in_features: int, features: int, attends: bool, settings: ADMSettings, rngs: nnx.Rngs, *, doubles: bool = False
) -> Stage:
    """A block, then attention and twice the resolution where wanted."""
    layers = [ResBlock(in_features, features, settings, rngs=rngs)]
    if attends:
        layers.append(Attention(features, settings, rngs=rngs))
    if doubles:
        layers.append(up(features, settings, rngs))
    return Stage(layers)


def _encoder(widths, num_blocks, attn_levels, settings, rngs) -> tuple[nnx.List, list[int]]:
    """The encoder's stages and the widths of all skips, the input convolution's first."""
    stages, skips = [], [widths[0]]
    for level, features in enumerate(widths):
        for _ in range(num_blocks):
            stages.append(_stage(skips[-1], features, level in attn_levels, settings, rngs))
            skips.append(features)
        if level + 1 < len(widths):
            stages.append(Stage([down(features, settings, rngs)]))
            skips.append(features)
    return nnx.List(stages), skips


def _decoder(widths, num_blocks, attn_levels, skips, settings, rngs) -> nnx.List:
    """The decoder's stages: at each level one more than in the encoder."""
    stages, skips, h = [], list(skips), widths[-1]
    for level in reversed(range(len(widths))):
        for i in range(num_blocks + 1):
            attends, doubles = level in attn_levels, level > 0 and i == num_blocks
            stages.append(_stage(h + skips.pop(), widths[level], attends, settings, rngs, doubles=doubles))
            h = widths[level]
    return nnx.List(stages)


def _check_levels(width, channel_mult, num_blocks, attn_levels) -> list[int]:
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


def _check_attention(head_dim, num_heads, attention_order) -> None:
    for name, value in (("head_dim", head_dim), ("num_heads", 1 if num_heads is None else num_heads)):
        if value < 1:
            raise UserError(f"network.{name} is {value}; expected at least 1")
    if attention_order not in ("new", "legacy"):
        raise UserError(f"network.attention_order is {attention_order!r}; expected 'new' or 'legacy'")
