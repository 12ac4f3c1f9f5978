"""Images a second of FID's Inception pass against pytorch-fid's on the same device.

  python benchmarks/features.py [--out FILE.json] [--repeats 10] [--batch 16] [--resize clean ...]

One pass takes uint8 images of 256x256 to pool features: resize, normalisation and network, with random weights. JAX is
what `pdm eval` runs, in all of float32. The PyTorch side is pytorch-fid's network as its program runs it (images to
float, bilinear resize inside) and the same in the channels_last layout; on a GPU also with convolutions in float32,
since PyTorch's default there is TF32, with some 1e-3 of error. Without torch and pytorch-fid the rows of JAX remain.
Passes of all programs are interleaved in one process, so that a busy machine slows them alike.

Columns: `images/s` of wall time; `ratio` is JAX's first row over PyTorch's, pass by pass; above 1 JAX is faster.

PyTorch's threads spin while they wait, so on two busy cores its times mean little; `taskset -c 0` compares one core.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable
from unittest import mock

import jax
import numpy as np
from report import Row, report, spread

from pdm_jax.evaluation.pretrained import RESIZES, inception_features
from pdm_jax.networks import define
from pdm_jax.networks.inception import InceptionV3

_SIZE = 256


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", metavar="FILE.json", help="also write the rows there")
    parser.add_argument("--repeats", type=int, default=10, help="timed passes of each program")
    parser.add_argument("--batch", type=int, default=16, help="images a pass")
    parser.add_argument("--resize", nargs="+", choices=RESIZES, default=["pytorch"], metavar="KIND")
    args = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (args.batch, _SIZE, _SIZE, 3), dtype=np.uint8)
    programs = jax_passes(images, args.resize) | torch_passes(images)
    report("features", measure(programs, args.batch, args.repeats), args.out)


def jax_passes(images: np.ndarray, kinds: list[str]) -> dict[str, Callable[[], None]]:
    """The project's pass with each resize."""
    definition = define(lambda rngs: InceptionV3(rngs=rngs))
    params = jax.jit(definition.init)(jax.random.key(0))

    def bound(kind: str) -> Callable[[], None]:
        apply = jax.jit(lambda params, images: inception_features(definition.bind(params), images, kind))
        return lambda: jax.block_until_ready(apply(params, images))

    return {f"jax {kind}": bound(kind) for kind in kinds}


def torch_passes(images: np.ndarray) -> dict[str, Callable[[], None]]:
    """pytorch-fid's pass in both layouts; none, with a line that says so, where it is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "pytorch_fid")):
        print("torch or pytorch-fid is not installed: only JAX is measured")
        return {}
    import torch

    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def bound(layout: torch.memory_format, use_tf32: bool) -> Callable[[], None]:
        network = pytorch_fid_network().to(device, memory_format=layout)

        @torch.inference_mode()
        def run() -> None:
            torch.backends.cudnn.allow_tf32 = use_tf32
            network((batch.to(device) / 255).contiguous(memory_format=layout))[0].cpu()

        return run

    layouts = {"pytorch-fid": torch.contiguous_format, "pytorch-fid channels_last": torch.channels_last}
    programs = {name: bound(layout, True) for name, layout in layouts.items()}
    exact = {f"{name} float32": bound(layout, False) for name, layout in layouts.items()}
    return programs | exact if device == "cuda" else programs


def pytorch_fid_network():
    """pytorch-fid's network; it downloads weights, for which PyTorch's random ones stand in."""
    import torchvision
    from pytorch_fid import inception

    def random_weights(*args, **kwargs) -> dict:
        return torchvision.models.inception_v3(num_classes=1008, aux_logits=False, init_weights=False).state_dict()

    with mock.patch.object(inception, "load_state_dict_from_url", random_weights):
        return inception.InceptionV3().eval()


def measure(programs: dict[str, Callable[[], None]], batch: int, repeats: int) -> list[Row]:
    """Interleaved speeds of the programs, after two passes of each to warm up."""
    speeds = {name: [] for name in programs}
    for repeat in range(repeats + 2):
        for name, run in programs.items():
            start = time.perf_counter()
            run()
            if repeat >= 2:
                speeds[name].append(batch / (time.perf_counter() - start))
    first = next(iter(programs))
    return [
        {
            "program": name,
            "images/s": spread(speed),
            "ratio": None if name.startswith("jax") else spread(np.divide(speeds[first], speed)),
        }
        for name, speed in speeds.items()
    ]


if __name__ == "__main__":
    main()
