"""PDM's U-Net: the network of the TensorFlow program, layer by layer (PDM appendix C)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.blocks import Attention, BlockSettings, Down, ResBlock, Signals, Stage, Up
from pdm_jax.networks.layers import GroupNorm, conv3x3, dense
from pdm_jax.ops.embeddings import grid_code, time_code
from pdm_jax.types import Array, Cond


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Features:
    """What the encoder hands to the decoder."""

    mid: Array  # (B, h, w, C) the deepest features
    skips: tuple[Array, ...]  # finest first; the first is the input projection


class TimeMLP(nnx.Module):
    """The time vector of a step; ends with an activation, so that blocks apply their dense layer directly."""

    def __init__(self, width: int, features: int, *, dtype, rngs: nnx.Rngs):
        self.width = width
        self.dense_in = dense(width, 4 * width, dtype=dtype, rngs=rngs)
        self.dense_out = dense(4 * width, features, dtype=dtype, rngs=rngs)

    def __call__(self, t: Array) -> Array:
        """t [B] to (B, features)."""
        return jax.nn.swish(self.dense_out(jax.nn.swish(self.dense_in(time_code(t, self.width)))))


class VarianceHead(nnx.Module):
    """The small auxiliary network for the variances (PDM appendix C); its last layer is float32."""

    def __init__(self, width: int, channels: int, time_dim: int, *, dtype, rngs: nnx.Rngs):
        self.modulation = dense(time_dim, 2 * width, dtype=dtype, rngs=rngs)
        self.conv_in = conv3x3(2 * width, width, dtype=dtype, rngs=rngs)
        self.conv_out = conv3x3(width, channels, dtype=jnp.float32, rngs=rngs)

    def __call__(self, first: Array, last: Array, time: Array) -> Array:
        """First and last features (B, h, w, width) and the time vector to (B, h, w, channels) in [0, 1].

        The features are stopped: the variance loss trains this head and, through `time`, the time MLP.
        """
        u = jax.lax.stop_gradient(jnp.concatenate([first, last], axis=-1))
        v = u + self.modulation(jax.nn.swish(time))[:, None, None]
        return jax.nn.sigmoid(self.conv_out(jax.nn.swish(self.conv_in(v))))


class PDMUNet(nnx.Module):
    """A U-Net over a grid of patches.

    Args:
      channels: of the input and output: P * P * colours.
      width: base width c, even and a multiple of 32.
      channel_mult: width factor of each level, finest first; the first is 1.
      num_blocks: blocks a level, one number or one a level.
      attn_levels: levels with attention after each block (finest is 0); the middle always attends.
      num_classes: 0 for none. The label `num_classes` is the null label.
      class_input: "add" (the embedding joins the time vector) or "gate" (it gates each block's branch).
      learn_variance: whether there is a variance head.
      stop_time: stops L_vlb at the time vector, as the paper says; its program lets it through.
      norm_eps, plain_norm_eps: of norms with and without an affine map. 1e-3 in the TensorFlow program; its
        PyTorch sister has 1e-5 in the former.
      head_dim: channels of an attention head.
      use_remat: recompute each block in the backward pass instead of keeping its activations.
      dtype: of the computation. The input convolution, the output head, the last variance convolution, norm
        statistics and softmax are float32 always, as are the parameters.
    """

    def __init__(
        self,
        *,
        channels: int,
        width: int,
        channel_mult: Sequence[float],
        num_blocks: int | Sequence[int],
        attn_levels: Sequence[int] = (),
        num_classes: int = 0,
        class_input: str = "add",
        learn_variance: bool = True,
        stop_time: bool = False,
        norm_eps: float = 1e-3,
        plain_norm_eps: float = 1e-3,
        head_dim: int = 64,
        use_remat: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        widths, num_blocks = _check_levels(width, channel_mult, num_blocks, attn_levels)
        if class_input not in ("add", "gate"):
            raise UserError(f"network.class_input is {class_input!r}; expected 'add' or 'gate'")
        use_gate = num_classes > 0 and class_input == "gate"
        self.stop_time, self.use_remat, self.use_gate, self.dtype = stop_time, use_remat, use_gate, dtype
        self.num_levels = len(widths)
        settings = BlockSettings(widths[-1], width if use_gate else None, norm_eps, plain_norm_eps, head_dim, dtype)

        label_dim = width if use_gate else widths[-1]
        self.label_embedding = (
            nnx.Embed(num_classes + 1, label_dim, embedding_init=_uniform, dtype=dtype, rngs=rngs)
            if num_classes
            else None
        )
        self.time_mlp = TimeMLP(width, widths[-1], dtype=dtype, rngs=rngs)
        self.conv_in = conv3x3(channels, width, dtype=jnp.float32, rngs=rngs)
        self.encoder, skips = _encoder(widths, num_blocks, attn_levels, settings, rngs)
        self.middle = nnx.List(
            [
                _stage(widths[-1], widths[-1], settings, rngs, project=False, attend=True),
                _stage(widths[-1], widths[-1], settings, rngs, project=False),
            ]
        )
        self.decoder = _decoder(widths, num_blocks, attn_levels, skips, settings, rngs)
        self.norm_out = GroupNorm(widths[0], norm_eps=norm_eps, rngs=rngs)
        self.conv_out = conv3x3(widths[0], channels, zero_init=True, dtype=jnp.float32, rngs=rngs)
        self.variance_head = (
            VarianceHead(width, channels, widths[-1], dtype=dtype, rngs=rngs) if learn_variance else None
        )

    def __call__(self, z_t: Array, t: Array, cond: Cond) -> tuple[Array, Array | None]:
        """z_t (B, h, w, channels) at steps t [B] or [1] to the output and the variance, of the same shape.

        The variance is in [0, 1], 1 towards the small one (PDM's convention); None without a variance head.
        """
        return self.decode(self.encode(z_t, t, cond), t, cond)

    def encode(self, z_t: Array, t: Array, cond: Cond) -> Features:
        """The features of z_t down to and including the middle."""
        check_grid(z_t.shape[1:3], self.num_levels)
        _, signals = self._signals(t, cond)
        h = self.conv_in(z_t) + grid_code(*z_t.shape[1:3], self.conv_in.out_features)
        h = h.astype(self.dtype)
        skips = [h]
        for entry in self.encoder:
            h = self._run(entry, h, signals)
            skips.append(h)
        for entry in self.middle:
            h = self._run(entry, h, signals)
        return Features(h, tuple(skips))

    def decode(self, features: Features, t: Array, cond: Cond) -> tuple[Array, Array | None]:
        """The output and the variance (see `__call__`) from features."""
        time, signals = self._signals(t, cond)
        h, skips = features.mid, list(features.skips)
        for entry in self.decoder:
            h = self._run(entry, jnp.concatenate([h, skips.pop()], axis=-1), signals)
        assert not skips, f"{len(skips)} skips left over"
        output = self.conv_out(jax.nn.swish(self.norm_out(h.astype(jnp.float32))))
        if self.variance_head is None:
            return output, None
        time = jax.lax.stop_gradient(time) if self.stop_time else time
        return output, self.variance_head(features.skips[0], h, time)

    def _signals(self, t: Array, cond: Cond) -> tuple[Array, Signals]:
        """The time vector without the label, for the variance head, and what the blocks get."""
        time = self.time_mlp(t)
        if self.label_embedding is None:
            return time, Signals(time, None)
        if cond.label is None:
            raise UserError(f"this network has {self.label_embedding.num_embeddings - 1} classes and needs labels")
        label = self.label_embedding(cond.label)
        return time, Signals(time, label) if self.use_gate else Signals(time + label, None)

    def _run(self, entry: nnx.Module, h: Array, signals: Signals) -> Array:
        return jax.checkpoint(lambda h, s: entry(h, s))(h, signals) if self.use_remat else entry(h, signals)


def _uniform(key: Array, shape: tuple[int, ...], dtype=jnp.float32, out_sharding=None) -> Array:
    return jax.random.uniform(key, shape, dtype, minval=-0.05, maxval=0.05)


def _stage(
    in_features: int,
    features: int,
    settings: BlockSettings,
    rngs: nnx.Rngs,
    *,
    project: bool,
    attend: bool = False,
    up_to: int | None = None,
) -> Stage:
    block = ResBlock(in_features, features, settings, project=project, rngs=rngs)
    attention = Attention(features, settings, rngs=rngs) if attend else None
    return Stage(block, attention, up_to and Up(features, up_to, settings, rngs=rngs))


def _encoder(widths, num_blocks, attn_levels, settings, rngs) -> tuple[nnx.List, list[int]]:
    """The encoder's entries and the widths of all skips, the input projection's first."""
    entries, skips = [], [widths[0]]
    for level, features in enumerate(widths):
        for _ in range(num_blocks[level]):
            entries.append(_stage(features, features, settings, rngs, project=False, attend=level in attn_levels))
            skips.append(features)
        if level + 1 < len(widths):
            entries.append(Down(features, widths[level + 1], settings, rngs=rngs))
            skips.append(widths[level + 1])
    return nnx.List(entries), skips


def _decoder(widths, num_blocks, attn_levels, skips, settings, rngs) -> nnx.List:
    """The decoder's entries: at each level one block more than in the encoder, the last one upsamples."""
    entries, skips, h = [], list(skips), widths[-1]
    for level in reversed(range(len(widths))):
        for i in range(num_blocks[level] + 1):
            up_to = widths[level - 1] if level > 0 and i == num_blocks[level] else None
            in_features, features = h + skips.pop(), widths[level]
            attend = level in attn_levels
            entries.append(_stage(in_features, features, settings, rngs, project=True, attend=attend, up_to=up_to))
            h = up_to or features
    return nnx.List(entries)


def _check_levels(width, channel_mult, num_blocks, attn_levels) -> tuple[list[int], list[int]]:
    """The width and the number of blocks of each level; errors name the setting."""
    if width % 2 or width < 4:
        raise UserError(f"network.width is {width}; expected an even number of at least 4")
    if not channel_mult or channel_mult[0] != 1:
        raise UserError(
            f"network.channel_mult is {tuple(channel_mult)}; it must start with 1: levels change the width between them"
        )
    num_levels = len(channel_mult)
    num_blocks = [num_blocks] * num_levels if isinstance(num_blocks, int) else list(num_blocks)
    if len(num_blocks) != num_levels:
        raise UserError(
            f"network.num_blocks has {len(num_blocks)} entries; expected one number, or one for each of the "
            f"{num_levels} levels of channel_mult"
        )
    if min(num_blocks) < 1:
        raise UserError(f"network.num_blocks is {num_blocks}; each level needs at least 1")
    if wrong := [level for level in attn_levels if not 0 <= level < num_levels]:
        raise UserError(f"network.attn_levels has {wrong}; the levels are 0 (finest) to {num_levels - 1}")
    return [int(width * mult) for mult in channel_mult], num_blocks


def check_grid(size: tuple[int, int], num_levels: int) -> None:
    """Raises a `UserError` unless a grid of `size` (height, width) can be halved down through the levels."""
    factor = 2 ** (num_levels - 1)
    if size[0] % factor or size[1] % factor:
        raise UserError(
            f"a grid of {size[0]}x{size[1]} patches cannot be halved {num_levels - 1} times; make the image size "
            f"a multiple of patch_size * {factor}, or use fewer levels in network.channel_mult"
        )
