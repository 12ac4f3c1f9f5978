"""InceptionV3 in the variant behind FID, sFID and the Inception Score: TensorFlow's graph of 2015-12-05.

Sources: Szegedy et al. 2015 (arXiv 1512.00567); pytorch-fid 0.3.0 and torch-fidelity 0.4.0 for what the graph does
differently (average pools do not count the padding, the last block has a max pool, 1008 classes). Batch norms are
folded into the convolutions when weights are loaded.

Every block is a table of branches. All 1x1 convolutions that read a block's input run as one, the one behind the
average pool too: averaging and a 1x1 convolution commute, and the pool is left with fewer channels.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from pdm_jax.networks.frozen import EXACT, ConvRelu, average_pool, max_pool
from pdm_jax.types import Array

SIZE = 299  # pixels of a side of what the network reads
OUTPUTS = {"pool": 2048, "spatial": 17 * 17 * 7, "logits": 1008}
_SPATIAL_BLOCK, _SPATIAL_CHANNELS = "Mixed_6d", 7  # ADM's `mixed_6/conv`, of which it takes the first channels


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution by its official name."""

    name: str
    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"


@dataclasses.dataclass(frozen=True)
class Branch:
    """Convolutions in a row."""

    convs: tuple[Conv, ...] = ()
    fork: tuple[Conv, ...] = ()  # at the end: side by side on the same input
    pool: str | None = None  # at the start: "average", "max", or "halve" (max with stride 2)

    @property
    def is_joined(self) -> bool:
        """Whether its first convolution joins the others that read the block's input."""
        return bool(self.convs) and self.convs[0].kernel == (1, 1) and self.pool != "max"

    @property
    def rest(self) -> tuple[Conv, ...]:
        """The convolutions in a row that run on their own."""
        return self.convs[1:] if self.is_joined else self.convs


def _branch(*convs: Conv, fork: tuple[Conv, ...] = (), pool: str | None = None) -> Branch:
    return Branch(convs, fork, pool)


def _halving(name: str, features: int) -> Conv:
    return Conv(name, features, (3, 3), 2, "VALID")


def _block_35(pooled: int) -> tuple[Branch, ...]:
    return (
        _branch(Conv("branch1x1", 64)),
        _branch(Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5))),
        _branch(Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, (3, 3)), Conv("branch3x3dbl_3", 96, (3, 3))),
        _branch(Conv("branch_pool", pooled), pool="average"),
    )


def _block_17(inner: int) -> tuple[Branch, ...]:
    return (
        _branch(Conv("branch1x1", 192)),
        _branch(Conv("branch7x7_1", inner), Conv("branch7x7_2", inner, (1, 7)), Conv("branch7x7_3", 192, (7, 1))),
        _branch(
            Conv("branch7x7dbl_1", inner),
            Conv("branch7x7dbl_2", inner, (7, 1)),
            Conv("branch7x7dbl_3", inner, (1, 7)),
            Conv("branch7x7dbl_4", inner, (7, 1)),
            Conv("branch7x7dbl_5", 192, (1, 7)),
        ),
        _branch(Conv("branch_pool", 192), pool="average"),
    )


def _block_8(pool: str) -> tuple[Branch, ...]:
    def fork(name: str) -> tuple[Conv, ...]:
        return Conv(f"{name}a", 384, (1, 3)), Conv(f"{name}b", 384, (3, 1))

    return (
        _branch(Conv("branch1x1", 320)),
        _branch(Conv("branch3x3_1", 384), fork=fork("branch3x3_2")),
        _branch(Conv("branch3x3dbl_1", 448), Conv("branch3x3dbl_2", 384, (3, 3)), fork=fork("branch3x3dbl_3")),
        _branch(Conv("branch_pool", 192), pool=pool),
    )


_TO_17 = (
    _branch(_halving("branch3x3", 384)),
    _branch(Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, (3, 3)), _halving("branch3x3dbl_3", 96)),
    _branch(pool="halve"),
)
_TO_8 = (
    _branch(Conv("branch3x3_1", 192), _halving("branch3x3_2", 320)),
    _branch(
        Conv("branch7x7x3_1", 192),
        Conv("branch7x7x3_2", 192, (1, 7)),
        Conv("branch7x7x3_3", 192, (7, 1)),
        _halving("branch7x7x3_4", 192),
    ),
    _branch(pool="halve"),
)
STEM = (
    _halving("Conv2d_1a_3x3", 32),
    Conv("Conv2d_2a_3x3", 32, (3, 3), padding="VALID"),
    Conv("Conv2d_2b_3x3", 64, (3, 3)),
    Conv("Conv2d_3b_1x1", 80),
    Conv("Conv2d_4a_3x3", 192, (3, 3), padding="VALID"),
)
_POOLED_AFTER = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")
BLOCKS = {
    "Mixed_5b": _block_35(32),
    "Mixed_5c": _block_35(64),
    "Mixed_5d": _block_35(64),
    "Mixed_6a": _TO_17,
    "Mixed_6b": _block_17(128),
    "Mixed_6c": _block_17(160),
    "Mixed_6d": _block_17(160),
    "Mixed_6e": _block_17(192),
    "Mixed_7a": _TO_8,
    "Mixed_7b": _block_8("average"),
    "Mixed_7c": _block_8("max"),
}


class Block(nnx.Module):
    """Branches side by side, their outputs joined along channels."""

    def __init__(self, in_features: int, branches: tuple[Branch, ...], *, rngs: nnx.Rngs):
        self.branches = nnx.static(branches)
        joined = sum(branch.convs[0].features for branch in branches if branch.is_joined)
        self.joined = ConvRelu(in_features, joined, (1, 1), rngs=rngs)
        self.out_features, convs = 0, {}
        for branch in branches:
            features = branch.convs[0].features if branch.is_joined else in_features
            for conv in branch.rest:
                convs[conv.name], features = _make(conv, features, rngs), conv.features
            convs |= {conv.name: _make(conv, features, rngs) for conv in branch.fork}
            self.out_features += sum(conv.features for conv in branch.fork) or features
        self.convs = nnx.Dict(convs)

    def __call__(self, x: Array) -> Array:
        """x (B, H, W, C_in) to (B, H', W', out_features)."""
        joined, start, outputs = self.joined.linear(x), 0, []
        for branch in self.branches:
            if branch.is_joined:
                stop = start + branch.convs[0].features
                h, start = joined[..., start:stop], stop
                h = jax.nn.relu(average_pool(h) if branch.pool == "average" else h)
            else:
                h = _pool(x, branch.pool)
            for conv in branch.rest:
                h = self.convs[conv.name](h)
            outputs += [self.convs[conv.name](h) for conv in branch.fork] or [h]
        return jnp.concatenate(outputs, axis=-1)


class InceptionV3(nnx.Module):
    """Images of 299x299 pixels in [-1, 1] to `OUTPUTS`."""

    def __init__(self, *, rngs: nnx.Rngs):
        features, stem, blocks = 3, {}, {}
        for conv in STEM:
            stem[conv.name], features = _make(conv, features, rngs), conv.features
        for name, branches in BLOCKS.items():
            blocks[name] = Block(features, branches, rngs=rngs)
            features = blocks[name].out_features
        self.stem, self.blocks = nnx.Dict(stem), nnx.Dict(blocks)
        self.classes = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (features, OUTPUTS["logits"])))

    def __call__(self, x: Array) -> dict[str, Array]:
        """x (B, 299, 299, 3) in [-1, 1] to float32 features.

        Returns:
          pool (B, 2048), the mean over the last grid; spatial (B, 2023), of ADM's sFID: 17x17 places by 7 channels
          after ReLU, flattened in that order; logits (B, 1008) without the bias, as ADM and torch-fidelity have
          them for the Inception Score.
        """
        for name, conv in self.stem.items():
            x = conv(x)
            x = max_pool(x, 3, 2) if name in _POOLED_AFTER else x
        for name, block in self.blocks.items():
            x = block(x)
            if name == _SPATIAL_BLOCK:  # the 1x1 branch comes first
                spatial = x[..., :_SPATIAL_CHANNELS].reshape(x.shape[0], -1)
        pool = x.mean((1, 2))
        return {"pool": pool, "spatial": spatial, "logits": jnp.dot(pool, self.classes[...], precision=EXACT)}


def _make(conv: Conv, in_features: int, rngs: nnx.Rngs) -> ConvRelu:
    return ConvRelu(in_features, conv.features, conv.kernel, stride=conv.stride, padding=conv.padding, rngs=rngs)


def _pool(x: Array, kind: str | None) -> Array:
    if kind is None:
        return x
    return max_pool(x, 3, 1, padding=1) if kind == "max" else max_pool(x, 3, 2)
