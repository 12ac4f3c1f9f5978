"""What Patch-DM costs, from compiled programs of a small network; nothing large is run.

  python benchmarks/patch_dm_cost.py [--only PART ...] [--out FOLDER]

  training   temporary memory of a step for images of 512 to 4096 pixels a side: the crop is fixed, and so is memory
  encoder    FLOPs of the encoder at one sampling step, in patches: (n + 1)(m + 1), where four encodings for each of
             the n m decoded patches would be 4 n m
  sampling   FLOPs and time of a step against the number of patches, and their distance from a straight line
  canvas     temporary memory of a step on 8192x8192 pixels, all patches at once and with `max_patches`

Memory is what a program needs beside its arguments and results, by the analysis of the compiler of the device here.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from report import Row, report

from pdm_jax.config import Config, DataConfig, LossConfig, MeshConfig, ModelConfig, OptimizerConfig, SampleConfig
from pdm_jax.networks import PatchUNet, define
from pdm_jax.parallel import make_mesh
from pdm_jax.planning.flops import program_flops
from pdm_jax.planning.programs import train_program
from pdm_jax.systems import System, make_system
from pdm_jax.types import Array, Cond, Step

_NETWORK = {"width": 32, "channel_mult": (1, 2), "num_blocks": 1, "embed_dim": 64, "dropout": 0.0}
_PATCH = 16
_GRIDS = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8))  # patches of the image, rows and columns
_REPEATS = 7
_CANVAS, _CANVAS_PATCH = 8192, 64


def make_config(size: tuple[int, int], patch_size: int = _PATCH, max_patches: int | None = None) -> Config:
    """A small network over patches, without codes, for images of `size` (height, width)."""
    return Config(
        data=DataConfig("memory", size, batch_size=1),
        model=ModelConfig("patch_dm", _NETWORK, backbone="patch_unet", patch_size=patch_size, prediction="eps"),
        loss=LossConfig("both", target="eps"),
        optimizer=OptimizerConfig(),
        sample=SampleConfig(max_patches=max_patches),
    )


def training() -> list[Row]:
    """MiB of a training step by the side of the image."""
    mesh, rows = make_mesh(MeshConfig(), jax.devices()[:1]), []
    for side in (512, 1024, 2048, 4096):
        program = train_program(make_config((side, side), patch_size=64), mesh)
        memory = program.function.lower(*program.arguments).compile().memory_analysis()
        rows.append({"side": side, "MiB": memory.temp_size_in_bytes / 2**20, "image MiB": side * side * 3 / 2**20})
    return rows


def encoder() -> list[Row]:
    """Encoded patches of a step: its FLOPs less those of the decoder, in encodings of one patch."""
    unet = define(lambda rngs: PatchUNet(channels=3, code_dim=0, rngs=rngs, **_NETWORK))
    patch, cond = jax.ShapeDtypeStruct((1, _PATCH, _PATCH, 3), jnp.float32), Cond(position=jnp.zeros((1, 3)))
    t = jnp.zeros(1, jnp.int32)
    encode = jax.make_jaxpr(lambda params, z: unet.bind(params).encode(z, t, cond))(unet.shapes, patch)
    whole = jax.make_jaxpr(lambda params, z: unet.bind(params)(z, t, cond)[0])(unet.shapes, patch)
    of_encoder = program_flops(encode)
    of_decoder = program_flops(whole) - of_encoder
    rows = []
    for n, m in _GRIDS:
        step, arguments = _step(make_config((n * _PATCH, m * _PATCH)))
        flops = program_flops(jax.make_jaxpr(step)(*arguments))
        rows.append(
            {
                "grid": f"{n}x{m}",
                "(n + 1)(m + 1)": (n + 1) * (m + 1),
                "encoded patches": (flops - n * m * of_decoder) / of_encoder,
                "4 n m": 4 * n * m,
            }
        )
    return rows


def sampling() -> list[Row]:
    """FLOPs and milliseconds of a step by the number of patches, encoded and decoded, and how far off a line."""
    counts, flops, times = [], [], []
    for n, m in _GRIDS:
        step, arguments = _step(make_config((n * _PATCH, m * _PATCH)))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), arguments)  # as slow as any other numbers
        counts.append((n + 1) * (m + 1) + n * m)
        flops.append(program_flops(jax.make_jaxpr(step)(*arguments)) / 1e9)
        times.append(1e3 * _fastest(functools.partial(jax.jit(step), *zeros)))
    columns = {"GFLOP": flops, "GFLOP off, %": _off(counts, flops), "ms": times, "ms off, %": _off(counts, times)}
    return [
        {"grid": f"{n}x{m}", "patches": counts[i]} | {name: float(column[i]) for name, column in columns.items()}
        for i, (n, m) in enumerate(_GRIDS)
    ]


def _off(counts: list[int], values: list[float]) -> np.ndarray:
    """Percents by which values lie off the line through them that is relatively nearest."""
    slope, start = np.polyfit(counts, values, 1, w=1 / np.asarray(values))
    return 100 * (np.asarray(values) / (start + slope * np.asarray(counts)) - 1)


def canvas() -> list[Row]:
    """GiB of one sampling step on 8192x8192 pixels in patches of 64, by how many are computed at once."""
    rows = []
    for max_patches in (None, 1024, 256):
        step, arguments = _step(make_config((_CANVAS, _CANVAS), _CANVAS_PATCH, max_patches))
        memory = jax.jit(step).lower(*arguments).compile().memory_analysis()
        rows.append(
            {
                "max_patches": "all" if max_patches is None else max_patches,
                "GiB": memory.temp_size_in_bytes / 2**30,
                "image GiB": _CANVAS * _CANVAS * 3 * 4 / 2**30,
            }
        )
    return rows


def _step(config: Config) -> tuple[Callable[..., Array], tuple]:
    """The prediction of x0 of one image as a function of parameters and state, and shapes of both."""
    system: System = make_system(config)
    shape = (1, *system.image_shape)

    def step(params, z: Array) -> Array:
        return system.denoiser(params)(z, Step(t=jnp.int32(500)), system.cond(params, {}, shape)).x0

    return step, (system.shapes, jax.ShapeDtypeStruct(shape, jnp.float32))


def _fastest(function: Callable[[], Array]) -> float:
    """Seconds of the fastest call after the first, which compiles: what else runs makes others slower only."""
    jax.block_until_ready(function())
    taken = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(function())
        taken.append(time.perf_counter() - begin)
    return min(taken)


PARTS = {part.__name__: part for part in (training, encoder, sampling, canvas)}


def main(argv: list[str] | None = None) -> int:
    """Runs the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    folder = Path(__file__).parent / "results" / "patch_dm_cost"
    parser.add_argument("--out", type=Path, default=folder, metavar="FOLDER")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        report(name, PARTS[name](), args.out / f"{name}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
