"""What splitting and guidance cost in sampling: seconds a batch of the quickstart's networks, interleaved.

  python benchmarks/sampling.py [--batch 64] [--steps 50] [--repeats 10] [--out sampling.json]

Weights are random: they change nothing in how long a step takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import jax
import numpy as np
from report import report, spread

from pdm_jax.cli.config_files import load_config
from pdm_jax.config import SplitConfig
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines import make_generate
from pdm_jax.systems import make_system

_CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.py"


def main() -> None:
    """Times one network and a split of two, each unguided, guided, and guided in half of the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", default="50")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", help="a JSON file")
    args = parser.parse_args()
    split = load_config(str(_CONFIG))
    single = dataclasses.replace(split, split=SplitConfig())
    ways = {"unguided": {"guidance": 1.0}, "w = 2": {}, "w = 2 at t >= 500": {"guidance_from": 500}}
    cases = {
        (model, way): _sampler(dataclasses.replace(config.sample, steps=args.steps, **settings), config, args.batch)
        for model, config in (("one network", single), ("split of two", split))
        for way, settings in ways.items()
    }
    seconds = {name: [] for name in cases}
    for _ in range(args.repeats):
        for name, sample in cases.items():
            start = time.perf_counter()
            sample()
            seconds[name].append(time.perf_counter() - start)
    base = {way: np.array(seconds["one network", way]) for way in ways}
    rows = [
        {"model": model, "guidance": way, "s a batch": spread(s), "to one network": spread(np.array(s) / base[way])}
        for (model, way), s in seconds.items()
    ]
    report("sampling", rows, args.out)


def _sampler(sampling, config, batch: int):
    """A function that samples a batch and waits for it, compiled."""
    system, mesh = make_system(config), make_mesh(config.mesh)
    run = make_generate(system, sampling, mesh)
    params = jax.jit(system.init)(jax.random.key(0))
    indices = np.arange(batch, dtype=np.int32)
    key = np.asarray(jax.random.key_data(jax.random.key(1)))

    def sample() -> None:
        jax.block_until_ready(run(params, key, indices, {"label": indices % system.num_classes}, None))

    sample()
    return sample


if __name__ == "__main__":
    main()
