"""A vision transformer over a grid of patches, built against the instability of PDM's attempt (appendix D).

Blocks are adaLN-zero (Peebles & Xie 2023, arXiv 2212.09748): the condition shifts, scales and gates each branch,
and zero gates make every block the identity at the start. Queries and keys are normed (Dehghani et al. 2023, arXiv
2302.05442), so that attention logits cannot grow without bound. Places are told apart by rotating queries and keys
by row and column (Su et al. 2021, arXiv 2104.09864; on grids Heo et al. 2024, arXiv 2403.13298), which learns as fast
as added sines and keeps its meaning on grids it was not trained on.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks.blocks import attend
from pdm_jax.networks.layers import dense
from pdm_jax.ops.embeddings import time_code
from pdm_jax.types import Array, Cond

_NORM_EPS = 1e-6
_ROTARY_BASE = 100.0  # slowest turn: one radian in 100 places (Heo et al. 2024)
_label_init = nnx.initializers.normal(0.02)


class Signal(nnx.Module):
    """What conditions every block: the step and the label in one vector, already activated."""

    def __init__(self, width: int, num_classes: int, *, rngs: nnx.Rngs):
        self.width, self.num_classes = width, num_classes
        self.dense_in = dense(width, 4 * width, dtype=jnp.float32, rngs=rngs)
        self.dense_out = dense(4 * width, width, dtype=jnp.float32, rngs=rngs)
        self.label = nnx.Embed(num_classes + 1, width, embedding_init=_label_init, rngs=rngs) if num_classes else None

    def __call__(self, t: Array, label: Array | None) -> Array:
        """Steps t [B or 1] and labels [B] to (B or 1, width)."""
        signal = self.dense_out(jax.nn.swish(self.dense_in(time_code(t, self.width))))
        if self.label is not None:
            if label is None:
                raise UserError(f"this network has {self.num_classes} classes and needs labels")
            signal = signal + self.label(label)
        return jax.nn.swish(signal)


class Attention(nnx.Module):
    """Self-attention over all tokens; queries and keys are normed, then rotated by their places."""

    def __init__(self, width: int, head_dim: int, *, dtype, rngs: nnx.Rngs):
        self.head_dim = head_dim
        self.qkv = dense(width, 3 * width, dtype=dtype, rngs=rngs)
        self.norm_q, self.norm_k = (
            nnx.RMSNorm(head_dim, epsilon=_NORM_EPS, dtype=jnp.float32, rngs=rngs) for _ in range(2)
        )
        self.out = dense(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, angles: np.ndarray) -> Array:
        """x (B, K, D) with angles (K, head_dim / 2) to (B, K, D)."""
        qkv = self.qkv(x).reshape(*x.shape[:2], 3, -1, self.head_dim)
        q, k, v = (qkv[:, :, i] for i in range(3))  # each (B, K, heads, head_dim)
        q, k = rotate(self.norm_q(q), angles), rotate(self.norm_k(k), angles)
        return self.out(attend(q.astype(v.dtype), k.astype(v.dtype), v).reshape(x.shape))


class Block(nnx.Module):
    """Attention and a two-layer perceptron, each normed, modulated and gated by the signal, and added to x."""

    def __init__(self, width: int, head_dim: int, mlp_ratio: float, *, dtype, rngs: nnx.Rngs):
        self.dtype, mlp_width = dtype, int(mlp_ratio * width)
        self.modulation = dense(width, 6 * width, zero_init=True, dtype=jnp.float32, rngs=rngs)
        self.attention = Attention(width, head_dim, dtype=dtype, rngs=rngs)
        self.mlp_in = dense(width, mlp_width, dtype=dtype, rngs=rngs)
        self.mlp_out = dense(mlp_width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, signal: Array, angles: np.ndarray) -> Array:
        """x (B, K, D) to the same shape."""
        modulation = jnp.split(self.modulation(signal)[:, None], 6, axis=-1)  # each (B or 1, 1, D)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation
        h = modulate(x, shift, scale).astype(self.dtype)
        x = x + self.attention(h, angles) * gate.astype(self.dtype)
        h = modulate(x, mlp_shift, mlp_scale).astype(self.dtype)
        return x + self.mlp_out(jax.nn.gelu(self.mlp_in(h))) * mlp_gate.astype(self.dtype)


class Head(nnx.Module):
    """Tokens to channels in float32, modulated by the signal; zero at the start."""

    def __init__(self, width: int, channels: int, *, rngs: nnx.Rngs):
        self.modulation = dense(width, 2 * width, zero_init=True, dtype=jnp.float32, rngs=rngs)
        self.out = dense(width, channels, zero_init=True, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: Array, signal: Array) -> Array:
        """x (B, K, D) to (B, K, channels), float32."""
        shift, scale = jnp.split(self.modulation(signal)[:, None], 2, axis=-1)
        return self.out(modulate(x, shift, scale))


class ViT(nnx.Module):
    """A transformer over a grid of patches, one token a place; any grid goes through the same parameters.

    Args:
      channels: of the input and output: P * P * colours.
      width: of the tokens, a multiple of head_dim.
      depth: number of blocks. They are scanned, so that compile time does not grow with it; their parameters
        have a first axis of this length.
      head_dim: channels of an attention head, a multiple of 4 (rows and columns, each turned in pairs).
      mlp_ratio: width of the perceptron's hidden layer over `width`.
      num_classes: 0 for none. The label `num_classes` is the null label.
      learn_variance: whether there is a variance head.
      use_remat: keep only what enters each block for the backward pass, not what its dense layers make; the rest
        (norms, activations, attention) is always recomputed.
      dtype: of the blocks' computation. The input and output layers, the signal and its modulations, norms and
        softmax are float32 always, as are the parameters.
    """

    def __init__(
        self,
        *,
        channels: int,
        width: int,
        depth: int,
        head_dim: int = 64,
        mlp_ratio: float = 4.0,
        num_classes: int = 0,
        learn_variance: bool = True,
        use_remat: bool = False,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        _check_sizes(width, depth, head_dim, mlp_ratio)
        self.head_dim, self.use_remat, self.dtype = head_dim, use_remat, dtype
        self.signal = Signal(width, num_classes, rngs=rngs)
        self.tokens = dense(channels, width, dtype=jnp.float32, rngs=rngs)

        @nnx.split_rngs(splits=depth)
        @nnx.vmap
        def stacked_blocks(rngs: nnx.Rngs) -> Block:
            return Block(width, head_dim, mlp_ratio, dtype=dtype, rngs=rngs)

        self.blocks = stacked_blocks(rngs)
        self.head = Head(width, channels, rngs=rngs)
        self.variance_head = Head(width, channels, rngs=rngs) if learn_variance else None

    def __call__(self, z_t: Array, t: Array, cond: Cond) -> tuple[Array, Array | None]:
        """z_t (B, h, w, channels) at steps t [B] or [1] to the output and the variance, of the same shape.

        The variance is in [0, 1], 1 towards the small one (PDM's convention); None without a variance head. Its
        loss trains its head alone (PDM appendix C).
        """
        batch, height, width, channels = z_t.shape
        signal = self.signal(t, cond.label)
        tokens = self.tokens(z_t.reshape(batch, height * width, channels)).astype(self.dtype)
        tokens = self._run_blocks(tokens, signal, rotary_angles(height, width, self.head_dim))
        output = self.head(tokens, signal).reshape(z_t.shape)
        if self.variance_head is None:
            return output, None
        variance = self.variance_head(*jax.lax.stop_gradient((tokens, signal)))
        return output, jax.nn.sigmoid(variance).reshape(z_t.shape)

    def _run_blocks(self, tokens: Array, signal: Array, angles: np.ndarray) -> Array:
        """tokens (B, K, D) through all blocks, one compiled body."""
        graphdef, params = nnx.split(self.blocks)

        def body(tokens: Array, params: nnx.State) -> tuple[Array, None]:
            return nnx.merge(graphdef, params)(tokens, signal, angles), None

        # A scan stores whatever its body keeps for the backward pass, so it keeps what dense layers made, not the
        # cheap rest: a step takes the time of blocks in a list, in less memory.
        policy = None if self.use_remat else jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        return jax.lax.scan(jax.checkpoint(body, policy=policy, prevent_cse=False), tokens, params)[0]


def modulate(x: Array, shift: Array, scale: Array) -> Array:
    """x (B, K, D) normed over its features, times 1 + scale plus shift (B or 1, 1, D); float32."""
    return jax.nn.standardize(x.astype(jnp.float32), epsilon=_NORM_EPS) * (1 + scale) + shift


def rotary_angles(height: int, width: int, head_dim: int) -> np.ndarray:
    """How far each pair of a head's channels turns at each place of a grid, row by row.

    Returns:
      (height * width, head_dim / 2) float32 radians: the row's angles, then the column's, fastest first.
    """
    frequencies = _ROTARY_BASE ** -np.linspace(0, 1, head_dim // 4)
    places = np.indices((height, width)).reshape(2, -1, 1)  # (row | col, K, 1)
    return np.concatenate(places * frequencies, axis=-1).astype(np.float32)


def rotate(x: Array, angles: np.ndarray) -> Array:
    """x (B, K, heads, head_dim) with each channel of its first half and its partner in the second turned."""
    cos, sin = np.cos(angles)[None, :, None], np.sin(angles)[None, :, None]
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _check_sizes(width: int, depth: int, head_dim: int, mlp_ratio: float) -> None:
    """Errors that name the setting."""
    if depth < 1:
        raise UserError(f"network.depth is {depth}; expected at least 1 block")
    if head_dim < 4 or head_dim % 4:
        raise UserError(f"network.head_dim is {head_dim}; expected a multiple of 4")
    if width < 1 or width % head_dim:
        raise UserError(f"network.width is {width}; expected a multiple of network.head_dim, {head_dim}")
    if mlp_ratio * width < 1:
        raise UserError(f"network.mlp_ratio is {mlp_ratio}; expected a positive number")
