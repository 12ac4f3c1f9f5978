"""The train step against PyTorch on the same cores, and what Python adds to it.

  python benchmarks/train_step.py [--out FILE.json] [--repeats 20] [--cases quickstart ...] [--compile]

Each case is the quickstart's network and the real jitted step: loss with variance head, Adam, clipping, averaged
weights. The PyTorch side (`torch_pdm_unet.py`) does the same, in both memory layouts and with `--compile` also through
torch.compile. Steps of all programs are interleaved in one process, so that a busy machine slows them alike. Without
torch the rows of JAX remain. On a GPU both run there.

Columns: `step ms` is wall time, `cpu ms` is time on all cores together, `ratio` is JAX's wall time over PyTorch's,
pair by pair; below 1 JAX is faster. The last rows are the host's part of a step (next batch, transfer, dispatch,
window, progress bar), measured while the device waits for it, and as `ratio` its share of the whole step.

PyTorch's threads spin while they wait, so on two busy cores its times mean little; `taskset -c 0` compares one core.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from report import Row, report, spread

from pdm_jax.cli.config_files import load_config
from pdm_jax.config import Config
from pdm_jax.data import ArrayDataset
from pdm_jax.networks import count_params
from pdm_jax.parallel import make_mesh
from pdm_jax.systems import make_system
from pdm_jax.training.optimizer import make_optimizer
from pdm_jax.training.reports import Reports
from pdm_jax.training.state import plan_state
from pdm_jax.training.step import make_train_step, put
from pdm_jax.training.window import Window

_QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.py"
_PHOTOS = ("data.image_size=32", "data.channels=3", "data.batch_size=32", "model.num_classes=0")
CASES = {
    "quickstart": (),
    "32x32x3 P=1": (*_PHOTOS, "model.patch_size=1"),
    "32x32x3 P=2": (*_PHOTOS, "model.patch_size=2"),
}


class JaxStep:
    """The project's own step and its state."""

    def __init__(self, config: Config, images: np.ndarray, labels: np.ndarray | None):
        self.mesh = make_mesh(config.mesh)
        self.system, optimizer = make_system(config), make_optimizer(config.optimizer)
        plan = plan_state(self.system, optimizer, config.ema, self.mesh)
        self.train_step = make_train_step(self.system, optimizer, config, self.mesh, plan)
        self.state = plan.init(jax.random.key(config.seed))
        batch = {"image": images} if labels is None else {"image": images, "label": labels}
        self._batch = put(batch, self.system, self.mesh)
        self.num_params = count_params(self.state.params)

    def __call__(self) -> None:
        self.state, metrics = self.train_step(self.state, self._batch)
        jax.block_until_ready((self.state, metrics))


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", metavar="FILE.json", help="also write the rows there")
    parser.add_argument("--repeats", type=int, default=20, help="timed steps of each program")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--compile", action="store_true", help="torch.compile too; it takes minutes")
    args = parser.parse_args()
    rows, host = [], []
    for case in args.cases:
        config = load_config(str(_QUICKSTART), [f"--config.{setting}" for setting in CASES[case]])
        images, labels = make_images(config)
        jax_step = JaxStep(config, images, labels)
        programs = {"jax": jax_step, **torch_steps(config, images, labels, jax_step.num_params, args.compile)}
        rows += step_rows(case, programs, args.repeats)
        host.append(host_row(case, config, jax_step, images, labels, args.repeats))
    report("train_step", rows + host, args.out)


def make_images(config: Config) -> tuple[np.ndarray, np.ndarray | None]:
    """A batch of random bytes (B, S, S, C), with labels [B] where the model has classes."""
    rng, data = np.random.default_rng(0), config.data
    shape = (data.batch_size, data.image_size, data.image_size, data.channels)
    labels = np.arange(data.batch_size, dtype=np.int32) % config.model.num_classes if config.model.num_classes else None
    return rng.integers(0, 256, shape, dtype=np.uint8), labels


def torch_steps(
    config: Config, images: np.ndarray, labels: np.ndarray | None, num_params: int, use_compile: bool
) -> dict[str, Callable[[], None]]:
    """The PyTorch programs by name; none, with a line that says so, where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        print("torch is not installed: only JAX is measured")
        return {}
    import torch
    from torch_pdm_unet import make_train_step as make_torch_step

    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_default_device(device)
    torch_images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)
    torch_labels = torch.zeros(len(images), dtype=torch.long) if labels is None else torch.from_numpy(labels).to(device)

    def bound(channels_last: bool, compiled: bool) -> Callable[[], None]:
        step = make_torch_step(config, channels_last=channels_last, compiled=compiled)
        assert step.num_params == num_params, f"torch has {step.num_params} parameters, JAX {num_params}"

        def run() -> None:
            step(torch_images, torch_labels)
            if device == "cuda":
                torch.cuda.synchronize()

        return run

    steps = {"torch": bound(False, False), "torch channels_last": bound(True, False)}
    return steps | {"torch compiled": bound(True, True)} if use_compile else steps


def step_rows(case: str, programs: dict[str, Callable[[], None]], repeats: int) -> list[Row]:
    """Interleaved times of the programs, after two steps of each to warm up."""
    wall, cpu = ({name: [] for name in programs} for _ in range(2))
    for repeat in range(repeats + 2):
        for name, step in programs.items():
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            step()
            if repeat >= 2:
                wall[name].append(1000 * (time.perf_counter() - wall_start))
                cpu[name].append(1000 * (time.process_time() - cpu_start))
    return [
        {
            "case": case,
            "program": name,
            "step ms": spread(wall[name]),
            "cpu ms": spread(cpu[name]),
            "ratio": None if name == "jax" else spread(np.divide(wall["jax"], wall[name])),
        }
        for name in programs
    ]


def host_row(
    case: str, config: Config, step: JaxStep, images: np.ndarray, labels: np.ndarray | None, repeats: int
) -> Row:
    """The host's time of a step while the device waits for it: what the loop does around the computation."""
    host, total = [], []
    batches = iter(ArrayDataset(images, labels, config.data.batch_size, config.seed))
    window = Window(config.data.batch_size)
    with tempfile.TemporaryDirectory() as workdir:
        reports = Reports(Path(workdir), first_step=0, last_step=repeats)
        for _ in range(repeats):
            start = time.perf_counter()
            state, metrics = step.train_step(step.state, put(next(batches), step.system, step.mesh))
            dispatched = time.perf_counter()
            jax.block_until_ready((state, metrics))
            ready = time.perf_counter()
            window.add(metrics)
            reports.advance()
            end = time.perf_counter()
            step.state = state
            host.append(1000 * (dispatched - start + end - ready))
            total.append(1000 * (end - start))
        reports.close()
    batches.close()
    share = np.divide(host, total)
    return {"case": case, "program": "host", "step ms": spread(host), "cpu ms": None, "ratio": spread(share)}


if __name__ == "__main__":
    main()
